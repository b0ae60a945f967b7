"""From a YAML file or ``module:attr`` to a pipeline that can be created or resumed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llm_datagen.cli.modules import make_importable
from llm_datagen.cli.yaml_errors import problems_in
from llm_datagen.cli.yaml_graph import Graph
from llm_datagen.cli.yaml_load import Document, yaml_value
from llm_datagen.cli.yaml_nodes import GraphPart
from llm_datagen.cli.yaml_spec import SETTINGS, PipelinePart, read_spec
from llm_datagen.config import IfExists, OnChange
from llm_datagen.errors import ConfigError, DatagenError
from llm_datagen.errors.advice import did_you_mean
from llm_datagen.operators.import_path import load, looking_up
from llm_datagen.operators.references import build_operator
from llm_datagen.pipeline.base import BasePipeline
from llm_datagen.pipeline.node_pipeline import UnifiedNodePipeline
from llm_datagen.pipeline.pipeline import UnifiedPipeline
from llm_datagen.runs.diagram import DiagramFormat, draw
from llm_datagen.runs.sharded import is_sharded
from llm_datagen.runs.typed_commands import default_results
from llm_datagen.runs.versions import find_run
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.storage.object_uri import is_object_uri

if TYPE_CHECKING:  # whoever runs nothing in shards does not import what does
    from llm_datagen.shards.pipeline import ShardedPipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A pipeline that was named on the command line.

    Attributes:
        name: the absolute path of the file, or ``module:attr``.
        pipeline: the pipeline.
        pipeline_id: the id that the file or the code gives it, or an empty string.
        settings: settings to create it with, besides its own.
    """

    name: str
    pipeline: BasePipeline
    pipeline_id: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def create(
        self, pipeline_id: str | None, if_exists: IfExists | None, on_change: OnChange = "refuse"
    ) -> BasePipeline:
        """Create the run, or resume it if `if_exists` says so.

        Raises:
            ConfigError: when an option does not apply to this pipeline.
            PipelineExistsError: when the id, or an output, is there already.
        """
        pipeline = self.pipeline
        if pipeline.pipeline_id:
            if pipeline_id or if_exists or self.settings or on_change != "refuse":
                raise ConfigError(
                    f"{self.name} is created already, as {pipeline.pipeline_id!r}: say in the code what --id, "
                    "--if-exists, --accept-changes, --rerun, --replace and --set would say, or give the pipeline "
                    "without create()"
                )
            return pipeline
        chosen = pipeline_id or self.pipeline_id or None
        if isinstance(pipeline, UnifiedNodePipeline):
            if self.settings:
                raise ConfigError(f"--set: the nodes of {self.name} are wired by hand; say it in the code")
            return pipeline.create(chosen, if_exists=if_exists or "error", on_change=on_change)
        settings: dict[str, Any] = {"if_exists": if_exists or "error", "on_change": on_change, **self.settings}
        return cast("UnifiedPipeline | ShardedPipeline", pipeline).create(chosen, **settings)

    def to_try(self, folder: Path, most: int | None) -> tuple[dict[str, Any], list[Any]]:
        """Return the nodes as a run state has them, and their operators. Opens and changes nothing of theirs.

        Args:
            folder: where an input that is read once is copied.
            most: how many of its rows are wanted; None: all.

        Raises:
            ConfigError: when a setting is wrong, or cannot be set for this pipeline.
        """
        settings = {key: value for key, value in self.settings.items() if key not in {"results_dir", "log_file"}}
        if isinstance(self.pipeline, UnifiedPipeline) and not self.pipeline.pipeline_id:
            return self.pipeline.to_try(folder, most=most, **settings)
        if settings:
            raise ConfigError(f"--set: the nodes of {self.name} are made already; say it in the code")
        return self.pipeline.blueprint()


def describe(results_dir: str, name: str, format: DiagramFormat) -> str:
    """Return a diagram of a pipeline or of a run. Opens no stream.

    Args:
        results_dir: the folder of the runs.
        name: a YAML file, ``module:attr``, or the id of a run.
        format: "text" or "mermaid".

    Raises:
        ConfigError: when the pipeline is wrong.
        PipelineNotFoundError: when there is no such run.
    """
    path = Path(name)
    if path.suffix.lower() in {".yaml", ".yml", ".py"} or ":" in name or path.is_file():
        return find_target(name).pipeline.describe(format)
    folder = find_run(results_dir, name)
    run_state = folder.load()
    if is_sharded(run_state):
        from llm_datagen.shards.shown_streams import as_shown

        run_state = as_shown(run_state, folder)
    return draw(run_state, format)


def parse_settings(texts: list[str]) -> dict[str, Any]:
    """Parse ``--set key=value``; the values are YAML.

    Raises:
        ConfigError: when it is not ``key=value``, or the key is unknown.
    """
    known = sorted(SETTINGS)
    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: must be key=value")
        if key not in known:
            raise ConfigError(f"--set {text}: {key!r} is not a setting; {did_you_mean(key, known)}")
        settings[key] = yaml_value(value, f"--set {key}")
    return settings


def find_target(name: str, settings: Mapping[str, Any] | None = None) -> Target:
    """Load a pipeline. Modules of the working directory come first.

    Args:
        name: a YAML file, or ``module:attr``.
        settings: settings that override its own.

    Raises:
        ConfigError: when there is none of that name, or it is wrong.
    """
    make_importable(Path.cwd())
    path = Path(name)
    _refuse_script(name)
    if path.suffix.lower() in {".yaml", ".yml"} or path.is_file():
        return _from_file(path, settings or {})
    if ":" not in name:
        raise ConfigError(f"{name!r} is neither a YAML file nor 'module:name' of a pipeline")
    return _from_module(name, dict(settings or {}))


def _refuse_script(name: str) -> None:
    """Refuse a Python file, and say how to name a pipeline in it."""
    file, _, attribute = name.partition(":")
    if not file.endswith(".py"):
        return
    path = Path(file).with_suffix("")
    parts = path.parts if not path.is_absolute() and ".." not in path.parts else (path.name,)
    where = "" if len(parts) == len(path.parts) else f", typed in {path.parent}"
    raise ConfigError(
        f"{name!r} is a Python file; a pipeline in it is given as module:name, here {'.'.join(parts)}:"
        f"{attribute or 'NAME'}{where} (the name of a pipeline, or of a function that returns one)"
    )


def _from_file(path: Path, overrides: Mapping[str, Any]) -> Target:
    document = Document.read(path).overridden(overrides)
    spec = read_spec(document)
    make_importable(Path.cwd(), path.absolute().parent)
    pipeline: BasePipeline
    try:
        if isinstance(spec, GraphPart):
            pipeline = Graph(spec).pipeline(results_dir=default_results())
        else:
            pipeline = _line_of(spec)
    except ConfigError as error:
        raise document.error(problems_in(error)) from error.__cause__
    return Target(name=str(path.absolute()), pipeline=pipeline, pipeline_id=spec.pipeline_id)


def _line_of(spec: PipelinePart) -> UnifiedPipeline:
    operators = [build_operator(entry.ref(), f"operators[{number}]") for number, entry in enumerate(spec.operators)]
    _check_uris(spec)
    settings = {"results_dir": default_results(), **spec.settings()}
    return UnifiedPipeline(operators, node_configs=[entry.node_config() for entry in spec.operators], **settings)


def _check_uris(spec: PipelinePart) -> None:
    """Refuse a URI of no stream, with its key. After the operators: their modules may register protocols."""
    uris = [("input_uri", spec.input_uri), ("output_uri", spec.output_uri)]
    for number, entry in enumerate(spec.operators):
        uris += [(f"operators[{number}].{key}", getattr(entry, key)) for key in ("input_uri", "output_uri")]
    for key, uri in uris:
        try:
            if uri and is_object_uri(uri):
                StreamFactory.source(uri)
            elif uri:
                StreamFactory.stream_class(uri)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from None


def _from_module(name: str, settings: dict[str, Any]) -> Target:
    found = load(name)
    if not isinstance(found, BasePipeline) and callable(found):
        try:
            inspect.signature(found).bind()
        except TypeError:
            raise ConfigError(f"{name} takes arguments; give a function without, or the pipeline itself") from None
        try:
            with looking_up(name):
                found = found()
        except DatagenError:
            raise
        except Exception as error:
            raise ConfigError(f"{name}() failed: {type(error).__name__}: {error}") from error
    if not isinstance(found, BasePipeline):
        raise ConfigError(f"{name} must be a UnifiedPipeline or a UnifiedNodePipeline, or return one, not {found!r}")
    return Target(name=name, pipeline=found, settings=settings)
