"""What users hold: a pipeline, a node, and a run of them.

* `pipeline`, `node_pipeline`, `node`: the public classes; `base`, `stored`: what they share
* `settings`, `blueprint`: checked settings, and from them to the run state and back
* `binding`, `topology`, `disjoint_ids`, `fan_in`, `fan_out`: how nodes and streams are joined
* `run`, `runners`, `progress`: a run that goes on
* `resume_checks`, `operator_changes`, `changed_steps`, `rerun`: what must hold before a run goes on
"""

from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.node_pipeline import UnifiedNodePipeline
from llm_datagen.pipeline.pipeline import UnifiedPipeline

__all__ = ["UnifiedNode", "UnifiedNodePipeline", "UnifiedPipeline"]
