"""Who owns which bytes of shared memory until when."""
