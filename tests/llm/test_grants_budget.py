"""One budget over several processes: what all spend together is at most the cap, whatever dies, and the cap is used."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from llm_datagen.errors import StopRun
from llm_datagen.llm.cost.budget import Amount, Budget
from llm_datagen.llm.cost.shared_spend import SharedSpend
from llm_datagen.llm.cost.spend import Spend
from llm_datagen.llm.cost.spend_file import SpendFile
from llm_datagen.llm.errors import BudgetError
from llm_datagen.llm.grants.account_file import AccountFile, Accounts
from llm_datagen.llm.grants.budget_account import BudgetAccount
from llm_datagen.llm.grants.client import GrantsClient
from llm_datagen.llm.grants.messages import BudgetAnswer, BudgetAsk
from llm_datagen.llm.grants.units import NOTHING, Caps, Units

MOST = 60
"""Tokens that a call can cost; it costs a part of them."""


class Service:
    """A service with its file, and time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = AccountFile(folder)
        self.now = 0.0
        self.is_up = False
        self.start()

    def start(self) -> None:
        self.accounts = Accounts(window=60.0, slice_seconds=2.0)
        self._file.read(self.accounts, self.now)
        self._file.rewrite(self.accounts, self.now)
        self.is_up = True

    def kill(self) -> None:
        self._file.close()
        self.is_up = False

    def exchange(self, ask: BudgetAsk) -> BudgetAnswer:
        answer, is_news = self.accounts.budget.exchange(ask, self.now)
        if is_news:
            self._file.note("budget", ask.client, self.accounts.budget.state(ask.client))
            self._file.write(sync=False)
        return answer

    def granted(self) -> int:
        budget = self.accounts.budget
        return sum(budget.state(client)[2].tokens for client in budget.clients)


class Client:
    """Does what `GrantsClient` does with its thread."""

    status = ""

    def __init__(self, service: Service, dice: random.Random, loses: float) -> None:
        self._service, self._dice, self._loses = service, dice, loses
        self._sources: list[SharedSpend] = []
        self.is_alive = True

    def add(self, source: SharedSpend) -> None:
        if source not in self._sources:
            self._sources.append(source)

    def remove(self, source: SharedSpend) -> None:
        self._sources.remove(source)

    def wake(self) -> None: ...

    def check(self) -> None: ...

    def wait_until(self, is_done: Callable[[], bool], seconds: float, *, also_away: bool) -> bool:
        for _ in range(200):
            if not is_done():
                self._service.now += 0.01
                self.step()
        return is_done()

    def step(self) -> None:
        for source in self._sources:
            now = self._service.now
            if not self.is_alive or source.due(now) > now:
                continue
            ask = source.ask(now)
            if ask is None or not self._service.is_up or self._dice.random() < self._loses:
                continue
            answer = self._service.exchange(ask)
            if self._dice.random() < self._loses:
                continue
            if self._dice.random() < self._loses:
                self._service.exchange(ask)  # heard a second time
            source.answered(answer, now)


class Shard:
    """Makes calls until the budget has no room for one."""

    def __init__(self, service: Service, dice: random.Random, folder: Path, cap: int, *, loses: float) -> None:
        self.folder, self._dice = folder, dice
        self.client = Client(service, dice, loses)
        self._budget = Budget(tokens=cap)
        talks = cast(GrantsClient, self.client)
        self.spend = Spend.join(object(), folder, lambda: SharedSpend(folder, talks, folder.name))
        self.paid = 0
        self.is_stopped = False
        self.most_at_once = dice.choice([1, 4, 20])
        self.tasks = [asyncio.create_task(self._work()) for _ in range(self.most_at_once)]

    async def _work(self) -> None:
        while not self.is_stopped:
            need = self._dice.randint(MOST // 2, MOST)
            call = await self.spend.reserve(Amount(0, need), self._budget)
            if call is None:
                self.is_stopped = True
                return
            used = self._dice.randint(1, need)
            self.paid += used
            for _ in range(self._dice.randint(1, 5)):
                await asyncio.sleep(0)
            if self._dice.random() < 0.05:
                self.spend.lose(call)
            else:
                self.spend.settle(call, Amount(0, used))

    async def kill(self) -> None:
        self.client.is_alive = False
        for task in self.tasks:
            task.cancel()
        assert self.spend._file is not None
        self.spend._file._file.close()  # nothing more is written
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("kills", [0, 8])
def test_what_all_spend_is_at_most_the_cap_and_in_the_end_no_call_would_fit(
    tmp_path: Path, kills: int, seed: int
) -> None:
    dice = random.Random(seed)
    cap = dice.choice([200, 2_000, 10_000])

    async def main() -> None:
        loses = 0.1 if kills else 0.0
        service = Service(tmp_path / "grants")
        folders = [tmp_path / f"{number:05}" for number in range(8)]
        shards = {folder: Shard(service, dice, folder, cap, loses=loses) for folder in folders}
        paid = 0
        deaths = sorted(dice.randint(1, 150) for _ in range(kills))
        for step in range(20_000):
            service.now += 0.02
            for shard in shards.values():
                shard.client.step()
            await asyncio.sleep(0)
            while deaths and deaths[0] <= step:
                deaths.pop(0)
                if dice.random() < 0.3:
                    service.kill()
                    service.start()
                    continue
                folder = dice.choice(folders)
                await shards[folder].kill()
                paid += shards[folder].paid
                shards[folder] = Shard(service, dice, folder, cap, loses=loses)
            assert service.granted() <= cap
            if not deaths and all(all(task.done() for task in shard.tasks) for shard in shards.values()):
                break
        for shard in shards.values():
            await asyncio.gather(*shard.tasks)
            shard.client._loses = 0.0
            shard.spend.leave()
            paid += shard.paid
        service.kill()
        spent = sum(sum(each.tokens for each in SpendFile(folder).read()[::2]) for folder in folders)
        assert paid <= spent == service.granted(), "what was not spent was given back, once"
        assert cap - MOST < spent <= cap

    asyncio.run(main())


def ask(client: str, number: int, **said: Any) -> BudgetAsk:
    nothing = dict.fromkeys(("keep", "spent", "want", "least"), NOTHING)
    caps = Caps(None, 100)
    return BudgetAsk(
        client=client, number=number, token=f"t{number}" if number else "", **{"caps": caps, **nothing, **said}
    )


def tokens(count: int) -> Units:
    return Units(0, count)


def test_a_repeated_request_is_granted_once_and_an_earlier_one_that_comes_late_changes_nothing() -> None:
    account = BudgetAccount()
    first = ask("a", 1, want=tokens(10), least=tokens(10))
    assert account.exchange(first, 0.0)[0].granted == tokens(10)
    assert account.exchange(first, 0.1)[0].granted == tokens(10)
    back = ask("a", 2, keep=tokens(4), spent=tokens(4))
    assert account.exchange(back, 0.2)[0].granted == tokens(4)
    answer, is_news = account.exchange(first, 0.3)
    assert (answer.granted, answer.token, is_news) == (tokens(4), "t2", False)


def test_slices_shrink_as_the_cap_nears() -> None:
    account, granted = BudgetAccount(), []
    held = NOTHING
    for number in range(1, 8):
        answer, _ = account.exchange(ask("a", number, keep=held, want=tokens(100), least=tokens(1)), 0.0)
        granted.append(answer.granted.minus(held).tokens)
        held = answer.granted
    assert granted == [50, 25, 12, 6, 3, 2, 1]


def test_another_budget_is_refused_by_name_while_the_others_go_on_and_taken_when_they_have_ended() -> None:
    account = BudgetAccount()
    account.exchange(ask("a", 1, want=tokens(90), least=tokens(10)), 0.0)
    raised = {"want": tokens(120), "least": tokens(120), "caps": Caps(None, 200)}
    refused = account.exchange(ask("b", 1, **raised), 0.1)[0]
    assert (refused.granted, refused.refused) == (NOTHING, "a has 100 tokens, and b has 200 tokens")
    account.exchange(ask("a", 2, keep=tokens(50), spent=tokens(50), is_over=True), 0.2)
    assert account.exchange(ask("b", 2, **raised), 0.3)[0].granted == tokens(120)


def test_what_a_dead_run_holds_is_not_waited_for_and_one_that_goes_on_is() -> None:
    account = BudgetAccount()
    account.exchange(ask("a", 1, want=tokens(90), least=tokens(90)), 0.0)
    wants = {"want": tokens(20), "least": tokens(20)}
    waits = account.exchange(ask("b", 1, **wants), 1.0)[0]
    assert (waits.granted, waits.is_never, waits.again is not None) == (NOTHING, False, True)
    assert account.exchange(ask("a", 0, keep=tokens(90)), 1.1)[0].is_scarce, "so that it gives back what it can"
    never = account.exchange(ask("b", 2, **wants), 20.0)[0]
    assert (never.is_never, never.held, never.total) == (True, tokens(90), tokens(90))


def test_a_copy_of_a_run_spends_nothing_of_what_the_run_before_it_holds(tmp_path: Path) -> None:
    service, dice = Service(tmp_path / "grants"), random.Random(1)

    async def main() -> list[SharedSpend]:
        first = tmp_path / "00003"
        client = Client(service, dice, 0.0)
        spend = SharedSpend(first, cast(GrantsClient, client), first.name)
        client.add(spend)
        wanted = asyncio.create_task(spend.reserve(Amount(0, 30), Budget(tokens=100)))
        while not wanted.done():
            await asyncio.sleep(0)
            client.step()
        copy = tmp_path / "00003.2"
        copy.mkdir()
        (copy / "budget.jsonl").write_bytes((first / "budget.jsonl").read_bytes())
        again = Client(service, dice, 0.0)
        taken = SharedSpend(copy, cast(GrantsClient, again), copy.name)
        again.add(taken)
        assert taken.spent == Amount(0, 30)
        more = asyncio.create_task(taken.reserve(Amount(0, 30), Budget(tokens=100)))
        await asyncio.sleep(0)
        assert not more.done(), "it has to be granted"
        while not more.done():
            await asyncio.sleep(0)
            again.step()
        assert service.granted() >= 60
        with pytest.raises(BudgetError, match="different budgets"):
            await taken.reserve(Amount(0, 1), Budget(tokens=101))
        return [spend, taken]

    for each in asyncio.run(main()):
        each._file.close()  # type: ignore[union-attr]
    service.kill()


def test_a_file_that_is_older_than_what_the_service_knows_is_not_believed(tmp_path: Path) -> None:
    """As when a machine is lost, and the store has a copy of some seconds before."""
    service, dice = Service(tmp_path / "grants"), random.Random(1)

    async def spend_all(count: int) -> None:
        client = Client(service, dice, 0.0)
        spend = SharedSpend(tmp_path / "run", cast(GrantsClient, client), "run")
        client.add(spend)
        for _ in range(count):
            wanted = asyncio.create_task(spend.reserve(Amount(0, 30), Budget(tokens=100)))
            while not wanted.done():
                await asyncio.sleep(0)
                service.now += 0.1
                client.step()
            call = await wanted
            if call is None:
                break
            spend.settle(call, Amount(0, 30))
        spend._file.close()  # type: ignore[union-attr]
        if call is None:
            raise StopRun

    asyncio.run(spend_all(1))
    older = (tmp_path / "run" / "budget.jsonl").read_bytes()
    asyncio.run(spend_all(1))
    (tmp_path / "run" / "budget.jsonl").write_bytes(older)
    with pytest.raises(StopRun):
        asyncio.run(spend_all(2))
    assert service.granted() <= 100
    service.kill()


def test_what_a_run_has_spent_beyond_its_grant_is_not_granted_to_others() -> None:
    """An endpoint may count more than a call was to cost at most."""
    account = BudgetAccount()
    assert account.exchange(ask("a", 1, want=tokens(10), least=tokens(10)), 0.0)[0].granted == tokens(10)
    over = account.exchange(ask("a", 2, keep=tokens(95), spent=tokens(95)), 0.1)[0]
    assert over.granted == tokens(95)
    answer = account.exchange(ask("b", 1, want=tokens(90), least=tokens(1)), 0.2)[0]
    assert answer.granted.tokens <= 5
    answer = account.exchange(ask("c", 1, want=tokens(90), least=tokens(6)), 0.3)[0]
    assert (answer.granted, answer.is_never) == (NOTHING, True)
