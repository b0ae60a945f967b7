"""What the site needs beyond the pages: links that leave docs/, and code blocks with notes for the tests."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\((\.\./[^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^```(\w+) (?:run|file=\S+)$", re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Point links that leave docs/ to the repository; take `run` and `file=` off code blocks, but name the file."""

    def to_repository(link: re.Match[str]) -> str:
        target = os.path.normpath(Path("docs", page.file.src_uri).parent / link[1])
        if target.startswith("docs" + os.sep):
            return link[0]
        if not (ROOT / target).exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {target}, which is not there")
        return f"]({config['repo_url']}/blob/main/{Path(target).as_posix()}{link[2] or ''})"

    return FENCE.sub(_fence, LINK.sub(to_repository, markdown))


def _fence(block: re.Match[str]) -> str:
    _, _, file = block[0].partition("file=")
    return f'```{block[1]} title="{file}"' if file else f"```{block[1]}"


def on_files(files: Any, *, config: Any) -> Any:
    """Publish the JSON Schema of pipeline files beside the pages."""
    from mkdocs.structure.files import File

    text = (ROOT / "src/llm_datagen/cli/pipeline.schema.json").read_text(encoding="utf-8")
    files.append(File.generated(config, "assets/pipeline.schema.json", content=text))
    return files
