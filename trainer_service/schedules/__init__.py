"""Training schedules: what they are, where they are kept, and how they create jobs when they are due."""
