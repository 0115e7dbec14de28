"""The data sets that a training job can name: where they come from, how they are checked, what they hold."""
