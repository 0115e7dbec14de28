"""Which versions can answer: found in the store or on disk, checked, loaded, swapped, tried."""
