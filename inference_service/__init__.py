"""The service that answers classification requests with the newest snapshot of each model."""
