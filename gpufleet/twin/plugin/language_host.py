"""A language host for a Pulumi CLI that came without one (built from its Go module): runs `__main__.py` of a project.

The official CLI brings its own, which is used wherever it is found. This one runs the program in the environment that
it is installed in itself.
"""

from __future__ import annotations

import os
import runpy
import sys
from importlib.metadata import version
from typing import Any

from pulumi.automation._server import LanguageServer
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

from .serving import serve


class Host(LanguageServer):
    """Pulumi's server for inline programs, with the program read from the project's folder."""

    def __init__(self) -> None:
        super().__init__(lambda: None)

    def Handshake(self, request: Any, context: Any) -> language_pb2.LanguageHandshakeResponse:  # noqa: N802
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> plugin_pb2.PluginInfo:  # noqa: N802
        return plugin_pb2.PluginInfo(version=version("pulumi"))

    def Run(self, request: Any, context: Any) -> language_pb2.RunResponse:  # noqa: N802
        folder = request.info.program_directory
        os.chdir(request.pwd or folder)

        async def program() -> None:
            runpy.run_path(folder, run_name="__main__")

        self.program = program
        request.args[:] = sys.argv[-1:]  # where the engine listens, which inline programs are told like this
        result = super().Run(request, context)
        # What went wrong has been told to the engine already.
        return language_pb2.RunResponse(bail=True) if result.error else result


if __name__ == "__main__":
    serve(lambda server: language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Host(), server))
