"""The service that accepts training jobs, trains dense networks and publishes them as versions."""
