"""Settings that a pipeline does not have, because each of its nodes has its own: where they are given."""

from __future__ import annotations

from llm_datagen.config import NodeConfigOptions, settings_in
from llm_datagen.pipeline.settings import NodeAloneSettings, NodePipelineOptions, PipelineSettings

IN_NODE_CONFIGS = {
    name: f"it is a setting of a node: give it in node_configs=[{{{name!r}: …}}, …], an entry for each operator"
    for name in settings_in(NodeConfigOptions)
    if name not in settings_in(PipelineSettings)
}
"""What to do with a setting that `UnifiedPipeline` does not have, by name."""

IN_NODES = {
    name: f"it is a setting of a node: give it to UnifiedNode(…, {name}=…)"
    for name in settings_in(NodeAloneSettings)
    if name not in settings_in(NodePipelineOptions)
}
"""What to do with a setting that `UnifiedNodePipeline` does not have, by name."""
