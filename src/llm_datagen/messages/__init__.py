"""The protocol: every message that actors send one another. Plain, frozen data; commands are imperative, facts past.

A message that carries rows is `Bulk`: it travels in the data lane, in order, within bounds. All others are control:
they never wait behind rows. Representations hide rows, so that no log can show them.

Who MUST do what:

* A **reader** MUST NOT send more rows than were demanded; it sends at most one `Batch` for a `Demand`, as soon as it
  has a row. When its source has ended and every row was sent, it MUST send `EndOfSource`, once, behind the rows;
  but not between `EndsSooner` and `EndNoted`.
* A **node** MUST have at most one `Demand` open. It MAY demand whenever it likes; it stops to pause the flow.
  It MUST send `Finish` to its writer when, and only when, its source has ended and each of its rows was delivered.
* A **worker** MUST send the `Write` of a task before it reports the task's end to the node, and MAY be blocked by that.
* A **writer** MUST write data before the commit, commit before it sends `Committed`, and seal only after `Finish`, or
  when the target of its node is met: then it MUST tell `TargetMet`, and write no row more.
  It MUST resolve a write's `ack` when it is committed, or fail it when it never will be.
* Every **stage** MUST send its parent exactly one `StageEnded`, after it has closed its files.
* `Cancel` MAY reach anyone at any time, more than once. What is already dispatched ends; nothing new begins.
* A **node** that is told `PauseCalls` MUST resolve `paused` within a second, when no further call of the operator
  begins, without waiting for calls that run; and begins none until `UnpauseCalls`.
* A **pipeline** MUST answer every command that is asked, within a second, whatever the operators do.
* **Nobody** may be ended, or changed, by a message that it does not understand: it refuses it and goes on.

Layout: `data` (the way of rows) · `block_result` (what a worker gives back) · `lead` (how far a node may be ahead) ·
`reports` (to the supervisor, and from it) · `commands` and `events` (public).
"""

from llm_datagen.messages.block_result import BlockResult, OperatorFailure
from llm_datagen.messages.commands import (
    Cancel,
    ControlRequest,
    GetStatus,
    GiveAway,
    Pause,
    Reconfigure,
    Reconfigured,
    Resume,
    Run,
    Subscribe,
    Unpause,
)
from llm_datagen.messages.data import (
    Attach,
    Batch,
    Bulk,
    Committed,
    Demand,
    Drain,
    Dropped,
    EndNoted,
    EndOfSource,
    EndSooner,
    Feed,
    Finish,
    Load,
    PauseCalls,
    Resize,
    Sealed,
    StageOutcome,
    StopRequested,
    TaskDone,
    TasksDone,
    UnpauseCalls,
    Write,
    Writes,
)
from llm_datagen.messages.events import (
    CheckpointSaved,
    NodeFailed,
    NodeFinished,
    NodeProgressed,
    NodeStarted,
    OperatorLogged,
    PipelineFinished,
    PipelineStarted,
    RowDeadLettered,
    Stalled,
    UsageReported,
)
from llm_datagen.messages.lead import LeadMoved, LimitLead, Starving, TellLead, TellStarving
from llm_datagen.messages.reports import (
    EndsSooner,
    Moved,
    OperatorFailed,
    OutageNoted,
    RowsCommitted,
    RowsFailed,
    Settled,
    SourceQuiet,
    SourceSized,
    StageEnded,
    StatusChanged,
    TargetMet,
    TimeSpent,
    UsageTotal,
)

__all__ = [
    "Attach",
    "Batch",
    "BlockResult",
    "Bulk",
    "Cancel",
    "CheckpointSaved",
    "Committed",
    "ControlRequest",
    "Demand",
    "Drain",
    "Dropped",
    "EndNoted",
    "EndOfSource",
    "EndSooner",
    "EndsSooner",
    "Event",
    "Feed",
    "Finish",
    "GetStatus",
    "GiveAway",
    "HostMessage",
    "LeadMoved",
    "LimitLead",
    "Load",
    "Moved",
    "NodeFailed",
    "NodeFinished",
    "NodeMessage",
    "NodeProgressed",
    "NodeStarted",
    "OperatorFailed",
    "OperatorFailure",
    "OperatorLogged",
    "OutageNoted",
    "Pause",
    "PauseCalls",
    "PipelineFinished",
    "PipelineMessage",
    "PipelineStarted",
    "ReaderMessage",
    "Reconfigure",
    "Reconfigured",
    "Resize",
    "Resume",
    "RowDeadLettered",
    "RowsCommitted",
    "RowsFailed",
    "Run",
    "Sealed",
    "Settled",
    "SourceQuiet",
    "SourceSized",
    "StageEnded",
    "StageOutcome",
    "Stalled",
    "Starving",
    "StatusChanged",
    "StopRequested",
    "Subscribe",
    "SupervisorMessage",
    "TargetMet",
    "TaskDone",
    "TasksDone",
    "TellLead",
    "TellStarving",
    "TimeSpent",
    "Unpause",
    "UnpauseCalls",
    "UsageReported",
    "UsageTotal",
    "Write",
    "WriterMessage",
    "Writes",
]

NodeMessage = (
    Feed
    | Batch
    | EndOfSource
    | TaskDone
    | TasksDone
    | LimitLead
    | LeadMoved
    | Committed
    | Sealed
    | TellStarving
    | Starving
    | PauseCalls
    | UnpauseCalls
    | Resize
    | Cancel
)
ReaderMessage = Demand | Committed | Sealed | EndSooner | EndNoted | PauseCalls | UnpauseCalls | Cancel
WriterMessage = Attach | TellLead | Write | Writes | Finish | Dropped | Drain
SupervisorMessage = (
    StageEnded
    | SourceQuiet
    | SourceSized
    | EndsSooner
    | RowsCommitted
    | TimeSpent
    | TargetMet
    | OperatorFailed
    | OutageNoted
    | RowsFailed
    | Stalled
    | Moved
    | UsageReported
    | UsageTotal
    | OperatorLogged
    | ControlRequest
    | StopRequested
    | Cancel
)
Event = (
    PipelineStarted
    | NodeStarted
    | NodeProgressed
    | NodeFailed
    | RowDeadLettered
    | NodeFinished
    | UsageReported
    | Stalled
    | CheckpointSaved
    | OperatorLogged
    | PipelineFinished
)
HostMessage = Run | Resume | Cancel | Pause | Unpause | Reconfigure | GetStatus | Subscribe
PipelineMessage = (
    Run
    | Resume
    | Cancel
    | Pause
    | Unpause
    | Reconfigure
    | GiveAway
    | GetStatus
    | Subscribe
    | StatusChanged
    | RowsFailed
    | Settled
    | StageEnded
    | Event
)
