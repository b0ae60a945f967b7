"""The account of a run, recounted from its files: a line per node, and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.text import Text

from llm_datagen.cli.exit_codes import FAILED
from llm_datagen.cli.output import is_terminal, write, write_json
from llm_datagen.cli.run_view import open_run
from llm_datagen.runs.account import FINDINGS_SHOWN, NodeAccount
from llm_datagen.runs.display.console import SafeConsole
from llm_datagen.runs.display.lines import beyond_target
from llm_datagen.runs.display.name_table import Column, Name, NameTable
from llm_datagen.runs.exports import unfit_rows, verify_exports
from llm_datagen.runs.verify import verify
from llm_datagen.runs.words import number
from llm_datagen.shards.run_view import RunView
from llm_datagen.streams.outputs import UnfitRows

_ON_THE_MOVE = (
    "it is running, so its last rows are being written: findings may come from that; verify it when it has ended"
)


def verify_run(results_dir: str, pipeline_id: str, *, as_json: bool) -> int:
    """Recount a run, say what is wrong, and return the exit code.

    Args:
        results_dir: the folder of the runs.
        pipeline_id: the run's id.
        as_json: whether to print JSON.

    Raises:
        PipelineNotFoundError: when there is no such run.
    """
    run = open_run(results_dir, pipeline_id)
    accounts, of_exports = _recounted(run)
    unfit = unfit_rows(run.state)
    findings = sum(len(account.findings) for account in accounts) + len(of_exports)
    if as_json:
        nodes = [{**asdict(account), "pending": account.pending} for account in accounts]
        data = {"pipeline_id": pipeline_id, "status": run.status, "nodes": nodes, "findings": findings}
        if run.whole is not None:
            data["whole"] = of_exports
        elif run.state.get("exports"):
            data["exports"] = of_exports
        data["unfit"] = [asdict(each) for each in unfit]
        write_json(data)
    else:
        operators = [str(entry["operator"]) for entry in run.state["nodes"]]
        if is_terminal():
            SafeConsole().print(_table(accounts, operators))
        else:
            for account, operator in zip(accounts, operators, strict=True):
                write(_line(account, operator))
        _conclude(run, accounts, findings, unfit)
        for finding in of_exports:
            write(f"  {finding}")
        for each in unfit:
            write(f"  {each}")
    return FAILED if findings else 0


def _recounted(run: RunView) -> tuple[list[NodeAccount], list[str]]:
    """Return the account of each node, and what is wrong with what was made of the rows at the end."""
    if run.whole is None:
        return verify(run.state), verify_exports(run.state)
    from llm_datagen.shards.verify_whole import verify_whole

    found = verify_whole(run.whole)
    return found.nodes, found.findings


def _conclude(run: RunView, accounts: list[NodeAccount], findings: int, unfit: Sequence[UnfitRows]) -> None:
    what = "nothing is wrong" if not findings else "1 finding" if findings == 1 else f"{number(findings)} findings"
    if unfit:
        lacking = "1 output lacks rows" if len(unfit) == 1 else f"{len(unfit)} outputs lack rows"
        what = f"{what if findings else 'no file is damaged'}; {lacking}"
    write(f"run {run.pipeline_id} ({run.status}): {what}")
    if run.is_live:
        write(f"  {_ON_THE_MOVE}")
    if run.rerun_note:
        write(f"  {run.rerun_note}")
    for account in accounts:
        for finding in account.findings:
            write(f"  {account.node_id}: {finding}")
        if len(account.findings) == FINDINGS_SHOWN:
            write(f"  {account.node_id}: of more findings than {FINDINGS_SHOWN}, these are the first")


def _table(accounts: list[NodeAccount], operators: list[str]) -> NameTable:
    headings = ("rows\nin", "kept", "filtered", "skipped", "dead-\nlettered", "pending", "rows\nout")
    counts = [(_count(account.rows_in), *_parts(account).values(), _count(_rows_out(account))) for account in accounts]
    columns = [
        Column(heading, [Text(text) for text in texts], stays=0 if set(texts) == {"0"} else None)  # zeros go first
        for heading, texts in zip(headings, zip(*counts, strict=True), strict=True)
    ]
    seals = [Text(_sealed(account), style="green" if account.complete else "") for account in accounts]
    return NameTable(
        "node",
        [Name(account.node_id, operator) for account, operator in zip(accounts, operators, strict=True)],
        [*columns, Column("sealed", seals, is_left=True)],
        styles=["bold red" if account.findings else "" for account in accounts],
    )


def _line(account: NodeAccount, operator: str) -> str:
    parts = " + ".join(f"{count} {what}" for what, count in _parts(account).items())
    before, after = _count(account.rows_in), _count(_rows_out(account))
    seal = "sealed" if account.complete else "not sealed"
    return f"{account.node_id} {operator}: {before} rows in = {parts}; {after} rows out, {seal}{_target(account)}"


def _sealed(account: NodeAccount) -> str:
    return f"{'yes' if account.complete else 'no'}{_target(account)}"


def _target(account: NodeAccount) -> str:
    """Return what there is to say of a target, with a comma before it."""
    if account.unneeded:
        return ", unneeded"
    if account.target_rows is None:
        return ""
    return f", target met{beyond_target(account.beyond_target, account.cut_rows)}"


def _parts(account: NodeAccount) -> dict[str, str]:
    """Return the counts of the source rows. Each row is in exactly one of them."""
    if _is_unknown(account):
        return dict.fromkeys(("kept", "filtered", "skipped", "dead-lettered", "pending"), "?")
    return {
        "kept": _count(account.kept) if account.covered else "0",
        "filtered": number(account.filtered) + (f" ({number(account.rejected)} rejected)" if account.rejected else ""),
        "skipped": number(account.skipped),
        "dead-lettered": number(account.dead),
        "pending": _count(account.pending),
    }


def _rows_out(account: NodeAccount) -> int | None:
    return None if _is_unknown(account) else account.rows_out


def _is_unknown(account: NodeAccount) -> bool:
    """Return whether the files cannot say what became of the rows."""
    return account.unsettled or (bool(account.findings) and not account.covered)


def _count(value: int | None) -> str:
    return "?" if value is None else number(value)
