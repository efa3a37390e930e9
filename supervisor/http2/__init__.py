"""HTTP/2 as a server speaks it (RFC 9113): bytes in, bytes out, and what is asked in between."""
