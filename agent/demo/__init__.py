"""`quantd demo`: a real broker, a live camera from a real video, and the real daemon."""
