"""The HTTP API as FastAPI routers: one module per concern, each route declared in one place."""
