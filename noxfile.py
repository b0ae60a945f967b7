"""Sessions for `nox`: the checks of CI, one by one, each in an environment of its own. `nox -l` lists them."""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "types", "unit", "integration", "process", "docs"]
nox.options.reuse_existing_virtualenvs = True
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def _install(session: nox.Session, *extras: str) -> None:
    session.install("-c", "constraints.txt", "-e", f".[{','.join(extras)}]")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, spelling and the layers of imports."""
    _install(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, of tests and examples too."""
    _install(session, "dev")
    session.run("mypy")


@nox.session(python=PYTHONS)
def unit(session: nox.Session) -> None:
    """Run the tests that start no thread and no process."""
    _install(session, "test")
    session.run("python", "-m", "pytest", "-m", "unit", *session.posargs)


@nox.session(python=PYTHONS)
def integration(session: nox.Session) -> None:
    """Run whole pipelines in one process."""
    _install(session, "test")
    session.run("python", "-m", "pytest", "-m", "integration", *session.posargs)


@nox.session(python=PYTHONS)
def process(session: nox.Session) -> None:
    """Run the tests that start processes, and kill them."""
    _install(session, "test")
    session.run("python", "-m", "pytest", "-m", "process", *session.posargs)


@nox.session
def nightly(session: nox.Session) -> None:
    """Run the long and random tests."""
    _install(session, "test")
    session.run("python", "-m", "pytest", "-m", "nightly", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, and run what is on its pages."""
    _install(session, "test", "docs")
    session.run("mkdocs", "build", "--strict", "-f", ".ci/mkdocs.yml")
    session.run("python", "-m", "pytest", "tests/examples", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Report which lines the tests reach."""
    _install(session, "dev")
    session.run("python", "-m", "pytest", "--cov", "--cov-report=term-missing:skip-covered", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Compare the engine with a plain loop."""
    _install(session, "test")
    session.run("python", "-m", "tests.bench", *(session.posargs or ["--quick"]))
