"""The descriptor pool of the generated modules, apart from protobuf's default one.

Triton's client registers messages of the same full names (`inference.ModelInferRequest`) in the
default pool, which refuses a second definition. With a pool of our own, both live in one process.
"""

from google.protobuf import descriptor_pool

POOL = descriptor_pool.DescriptorPool()
