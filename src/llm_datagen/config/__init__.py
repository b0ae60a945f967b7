"""Settings: the table of a node's (`node`), what a setting is (`setting`), and how values are checked (`checks`)."""

from typing import TYPE_CHECKING

from llm_datagen.errors.lazy import lazy_names

if TYPE_CHECKING:
    from llm_datagen.config.checks import (
        LARGEST,
        LONGEST,
        Check,
        check_choice,
        check_count,
        check_flag,
        check_local_path,
        check_max_errors,
        check_most,
        check_path,
        check_positive,
        check_rate,
        check_seconds,
        check_text,
        check_whole,
        choice_of,
        is_number,
        optional,
        shown,
    )
    from llm_datagen.config.choices import (
        BatchBy,
        CellType,
        DeliveryMode,
        ExecutorKind,
        Fsync,
        IdScheme,
        IfExists,
        InputIds,
        MergeIds,
        Nan,
        OnChange,
        OnError,
        PipelineIdScheme,
        TargetRows,
        Verify,
    )
    from llm_datagen.config.constructor import refuses_unknown
    from llm_datagen.config.failure_policy import SHARE_ROWS, FailurePolicy
    from llm_datagen.config.groups import OLDER, UNBOUNDED, DataConfig, WriterConfig, set_data_config
    from llm_datagen.config.node import (
        BatchOptions,
        NodeConfig,
        NodeConfigOptions,
        NodeOptions,
        NodeSettings,
        SizeOptions,
        WriterOptions,
        node_settings,
        settings_of_entry,
    )
    from llm_datagen.config.setting import (
        Setting,
        SettingsGroup,
        checked,
        object_of,
        plain,
        refuse_unknown,
        settings_in,
    )
    from llm_datagen.config.target import Target, check_target

__all__ = [
    "LARGEST",
    "LONGEST",
    "OLDER",
    "SHARE_ROWS",
    "UNBOUNDED",
    "BatchBy",
    "BatchOptions",
    "CellType",
    "Check",
    "DataConfig",
    "DeliveryMode",
    "ExecutorKind",
    "FailurePolicy",
    "Fsync",
    "IdScheme",
    "IfExists",
    "InputIds",
    "MergeIds",
    "Nan",
    "NodeConfig",
    "NodeConfigOptions",
    "NodeOptions",
    "NodeSettings",
    "OnChange",
    "OnError",
    "PipelineIdScheme",
    "Setting",
    "SettingsGroup",
    "SizeOptions",
    "Target",
    "TargetRows",
    "Verify",
    "WriterConfig",
    "WriterOptions",
    "check_choice",
    "check_count",
    "check_flag",
    "check_local_path",
    "check_max_errors",
    "check_most",
    "check_path",
    "check_positive",
    "check_rate",
    "check_seconds",
    "check_target",
    "check_text",
    "check_whole",
    "checked",
    "choice_of",
    "is_number",
    "node_settings",
    "object_of",
    "optional",
    "plain",
    "refuse_unknown",
    "refuses_unknown",
    "set_data_config",
    "settings_in",
    "settings_of_entry",
    "shown",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_names(
        __name__,
        {
            "checks": "LARGEST LONGEST Check check_choice check_count check_flag check_local_path check_max_errors "
            "check_most check_path check_positive check_rate check_seconds check_text check_whole choice_of "
            "is_number optional shown",
            "choices": "BatchBy CellType DeliveryMode ExecutorKind Fsync IdScheme IfExists InputIds MergeIds Nan "
            "OnChange OnError PipelineIdScheme TargetRows Verify",
            "constructor": "refuses_unknown",
            "failure_policy": "SHARE_ROWS FailurePolicy",
            "groups": "OLDER UNBOUNDED DataConfig WriterConfig set_data_config",
            "node": "BatchOptions NodeConfig NodeConfigOptions NodeOptions NodeSettings SizeOptions WriterOptions "
            "node_settings settings_of_entry",
            "setting": "Setting SettingsGroup checked object_of plain refuse_unknown settings_in",
            "target": "Target check_target",
        },
    )
