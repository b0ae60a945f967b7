"""What users hold: a pipeline, a node, and a run of them.

* `pipeline`, `node_pipeline`, `node`: the public classes; `stored_pipeline`, `base`: what both pipelines share
* `settings`, `line_settings`, `given_settings`: the table of their settings, and constructors that take it
* `blueprint`, `node_entries`: what the code says, as a run state, and back to nodes
* `stored`, `opening`, `node_opening`: a run is created, resumed, and opened
* `binding`, `topology`, `disjoint_ids`, `fan_in`, `fan_out`: how nodes and streams are joined
* `run`, `runners`, `progress`: a run that goes on
* `checked_resume`, `resume_checks`, `ignored`, `operator_changes`, `changed_steps`: what must hold before a run goes on
* `past_ends`, `rows_left`: nodes that cannot go on as they are, and rows that would come
* `stream_reset`, `rerun`, `kept_version`: nodes that are done again, and what they had made
* `diff`: what a resume would do, and what that costs
"""

from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.node_pipeline import UnifiedNodePipeline
from llm_datagen.pipeline.pipeline import UnifiedPipeline

__all__ = ["UnifiedNode", "UnifiedNodePipeline", "UnifiedPipeline"]
