"""Who calls: two request headers that only the front door sets, and the server hands on as request parameters."""

CALLER_HEADER = "auralsam2-caller"
REQUEST_HEADER = "auralsam2-request"
