"""Prometheus and Grafana for the service: whom to ask, what to record, when to call, and the dashboard."""
