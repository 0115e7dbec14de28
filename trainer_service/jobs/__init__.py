"""Training jobs: what they are, where they are kept, how they are queued, run and watched."""
