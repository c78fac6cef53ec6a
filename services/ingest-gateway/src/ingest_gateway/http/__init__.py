"""The gateway's endpoints and their OpenAPI document."""
