"""How fast and how steady the service is: load from locust users, overload, the paper's throughput tables, overhead."""
