"""What is counted, in memory that several processes share, and how Prometheus is told of it."""
