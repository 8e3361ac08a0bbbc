"""A real RTSP camera on loopback; run with the Python that sees gi (Debian: /usr/bin/python3).

usage: rtsp_server.py FILE.avi PORT [user password]     prints READY url

The file holds JPEG frames (AVI); it is sent as H.264 without added delay, in real time.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

file, port = sys.argv[1:3]
Gst.init(None)
for element in ("avidemux", "jpegdec", "x264enc", "rtph264pay"):
    if Gst.ElementFactory.find(element) is None:
        sys.exit(f"no GStreamer element {element}")
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( multifilesrc location={file} loop=true ! avidemux ! jpegdec ! videoconvert"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=3000"
    " ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)
factory.set_shared(True)
if sys.argv[3:]:
    user, password = sys.argv[3:5]
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    factory.add_role_from_structure(
        Gst.Structure.from_string("user, media.factory.access=true, media.factory.construct=true")[
            0
        ]
    )
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print(f"READY rtsp://127.0.0.1:{server.get_bound_port()}/cam", flush=True)  # noqa: T201
GLib.MainLoop().run()
