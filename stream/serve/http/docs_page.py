"""``/docs``: Swagger UI from the installed package ``fastapi-offline``, so that it works without the internet."""

from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse

#: where each file of the package is served, and as what
_FILES: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}


def add_manual(app: FastAPI) -> None:
    """Add ``/docs`` and the files that its page loads; each by an exact path, and no other file of the package."""
    folder = Path(str(files("fastapi_offline"))) / "static"

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        script, style, icon = (f"/docs/{name}" for name in _FILES)
        return get_swagger_ui_html(
            openapi_url=app.openapi_url or "", title=app.title, swagger_js_url=script, swagger_css_url=style,
            swagger_favicon_url=icon,
        )  # fmt: skip

    for name, kind in _FILES.items():
        _add_file(app, f"/docs/{name}", folder / name, kind)


def _add_file(app: FastAPI, path: str, file: Path, kind: str) -> None:
    @app.get(path, include_in_schema=False)
    async def static() -> FileResponse:
        return FileResponse(file, media_type=kind)
