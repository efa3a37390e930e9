"""The supervisor: endpoints, schedulers, the model repository and the care of workers."""
