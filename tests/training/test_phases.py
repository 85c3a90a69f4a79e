"""A referee led through every turn of a competition by scripted P(real), without a network."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stan_ct.training.phases import PhaseRules, Referee, Verdict

ROOT = Path(__file__).parents[2]
ONE = PhaseRules(num_copies=1, d_phase_steps=100, g_phase_steps=100, max_rollbacks=1, averaging_batches=20)
TWO = PhaseRules(num_copies=2, max_rollbacks=1, d_phase_steps=4, g_phase_steps=4, theta_d=0.9, theta_g=0.9, averaging_batches=1)


def judged(referee, good):
    """P(real) where each copy, by number, is so far on its way in the present phase (1: where it wants to be)."""
    good = np.broadcast_to(good, referee.rules.num_copies)
    if referee.phase == "d":
        return good, np.repeat(1 - good[:, None], len(good), 1)
    return np.full(len(good), np.nan), np.repeat(good[None], len(good), 0)


def play(referee, script):
    """Verdicts of steps in which copies do as scripted."""
    return [referee.observe(*judged(referee, good)) for good in script]


def until_the_end(referee, script):
    """Steps of a phase that is played to its end, and the last verdict; the script's last entry goes on for ever."""
    for number in range(10_000):
        verdict = referee.observe(*judged(referee, script[min(number, len(script) - 1)]))
        if verdict.ended:
            return number + 1, verdict
    raise AssertionError("the phase never ended")


def in_g_phase(rules):
    """A referee whose first D-phase has been won."""
    referee = Referee(rules)
    until_the_end(referee, [1.0])
    assert (referee.phase, referee.phases, referee.version) == ("g", 1, 0)
    return referee


def test_without_tensorflow():
    """The rules of the competition are plain Python: TensorFlow and Keras are not imported with them."""
    code = "import sys; import stan_ct.training.phases; print({'tensorflow', 'keras'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "set()"


def test_d_and_g_alternate():
    """D starts; phases alternate; a version is complete after each G-phase."""
    referee, seen = Referee(TWO), []
    for _ in range(6):
        seen.append((referee.phase, referee.phases, referee.version))
        until_the_end(referee, [1.0])
    assert seen == [("d", 0, 0), ("g", 1, 0), ("d", 2, 1), ("g", 3, 1), ("d", 4, 2), ("g", 5, 2)]


@pytest.mark.parametrize("phase", ["d", "g"])
@pytest.mark.parametrize(
    ("script", "steps"),
    [
        ([0.995], 20),
        ([0.5] * 7 + [1.0], 27),
        ([1.0] * 19 + [0.0] + [1.0], 40),
        ([0.985, 0.999] * 50, 20),
        ([0.995, 0.5] * 50, 100),
        ([0.0] * 5 + [0.991], 25),
        ([0.99], 100),
    ],
)
def test_won_on_average(phase, script, steps):
    """A phase is won once the mean over the last 20 batches is above theta: no lucky batch wins, each unlucky one counts."""
    rules = replace(ONE, max_rollbacks=0)
    made, verdict = until_the_end(Referee(rules) if phase == "d" else in_g_phase(rules), script)
    assert (made, verdict.ended) == (steps, "gave_up" if steps == 100 else "won")


def test_average_longer_than_the_phase():
    """Where t_max is below the number of batches averaged, t_max batches are enough to win."""
    made, verdict = until_the_end(Referee(replace(ONE, d_phase_steps=5)), [1.0])
    assert (made, verdict) == (5, Verdict(won=(0,), ended="won"))


def test_the_first_d_phase_may_be_longer():
    """D starts from nothing: `warm_up_steps` are the t_max of the first D-phase, rollback included, and of no other."""
    rules = replace(ONE, warm_up_steps=7, d_phase_steps=3, g_phase_steps=2, max_rollbacks=1)
    referee = Referee(rules)
    assert [until_the_end(referee, [0.0])[0] for _ in range(4)] == [14, 4, 6, 4]
    won = Referee(replace(rules, averaging_batches=20))
    assert until_the_end(won, [1.0])[0] == 7


@pytest.mark.parametrize(
    ("target", "synthesized", "won"),
    [(0.95, 0.05, True), (0.89, 0.05, False), (0.95, 0.11, False), (0.05, 0.95, False), (0.9, 0.05, False)],
)
def test_d_wins_on_both_sides(target, synthesized, won):
    """D has won when P(real | x) > theta_d and P(real | G(x')) < 1 - theta_d; one of the two is not enough."""
    verdict = Referee(replace(TWO, num_copies=1)).observe(np.array([target]), np.array([[synthesized]]))
    assert verdict == (Verdict(won=(0,), ended="won") if won else Verdict())


def test_d_must_see_through_every_g():
    """The worst G counts: D 0 is deceived by G 1, D 1 by none."""
    referee = Referee(TWO)
    verdict = referee.observe(np.array([0.99, 0.99]), np.array([[0.01, 0.2], [0.01, 0.02]]))
    assert (verdict, referee.active) == (Verdict(won=(1,)), (0,))
    assert referee.score(0) == pytest.approx(0.8)


def test_g_must_deceive_every_d():
    """The strictest D counts: G 0 deceives D 0 alone, G 1 both."""
    referee = in_g_phase(TWO)
    verdict = referee.observe(np.full(2, np.nan), np.array([[0.99, 0.95], [0.3, 0.91]]))
    assert (verdict, referee.active) == (Verdict(won=(1,)), (0,))
    assert referee.score(0) == pytest.approx(0.3)


def test_winner_rests_until_all_have_won():
    """A copy that has won is not asked again, whatever it would have said: NaN stands for it."""
    referee = Referee(TWO)
    assert play(referee, [(1.0, 0.0), (np.nan, 0.0)]) == [Verdict(won=(0,)), Verdict()]
    assert referee.active == (1,)
    assert play(referee, [(np.nan, 1.0)]) == [Verdict(won=(1,), ended="won")]
    assert (referee.phase, referee.active) == ("g", (0, 1))


def test_rollback_of_the_loser_alone():
    """At t_max the copy that has not won goes back, tries as long again, and wins; the winner rests through both tries."""
    referee = Referee(TWO)
    verdicts = play(referee, [(0.0, 1.0), *[(0.3, np.nan)] * 3])
    assert verdicts == [Verdict(won=(1,)), Verdict(), Verdict(), Verdict(keep=(0,), roll_back=(0,))]
    assert (referee.phase, referee.attempt, referee.step, referee.active) == ("d", 1, 0, (0,))
    assert play(referee, [(0.5, np.nan)] * 3 + [(0.95, np.nan)])[-1] == Verdict(won=(0,), ended="won")
    assert referee.attempt == 0


def test_rollback_forgets_the_moving_mean():
    """The mean of a new try starts anew: what the last try has seen neither helps nor hinders."""
    referee = Referee(replace(ONE, d_phase_steps=30, averaging_batches=20))
    assert until_the_end(referee, [0.0] * 30 + [1.0])[0] == 50
    referee = Referee(replace(ONE, d_phase_steps=30, averaging_batches=20))
    assert until_the_end(referee, [0.0] * 11 + [1.0] * 19 + [0.0])[1].ended == "gave_up"


@pytest.mark.parametrize(
    ("tries", "kept", "restored"),
    [
        ((0.2, 0.6, 0.4), [(0,), (0,)], (0,)),  # the second is the best: taken back after the third
        ((0.6, 0.2, 0.4), [(0,), ()], (0,)),
        ((0.2, 0.4, 0.6), [(0,), (0,)], ()),  # the last is the best: it stays
        ((0.5, 0.5, 0.5), [(0,), (0,)], ()),  # the later of equals
    ],
)
def test_best_try_is_kept(tries, kept, restored):
    """A copy that has used up its tries goes on with the best of them."""
    referee = Referee(replace(TWO, num_copies=1, max_rollbacks=2))
    first, second, last = ([v for v in play(referee, [good] * 4) if v != Verdict()] for good in tries)
    assert first + second == [Verdict(keep=keep, roll_back=(0,)) for keep in kept]
    assert last == [Verdict(restore=restored, ended="gave_up")]
    assert referee.phase == "g"


def test_no_rollback():
    """With max_rollbacks 0 a lost phase ends at t_max; nothing is kept, put back, or restored."""
    made, verdict = until_the_end(Referee(replace(TWO, max_rollbacks=0)), [(0.0, 0.5)])
    assert (made, verdict) == (4, Verdict(ended="gave_up"))


def test_each_side_has_its_own_t_max_and_theta():
    """d_phase_steps and theta_d lead D-phases, g_phase_steps and theta_g G-phases."""
    rules = PhaseRules(
        num_copies=1, d_phase_steps=3, g_phase_steps=7, theta_d=0.5, theta_g=0.8, averaging_batches=1, max_rollbacks=0
    )
    referee = Referee(rules)
    assert until_the_end(referee, [0.4])[0] == 3
    assert until_the_end(referee, [0.6])[0] == 7
    assert until_the_end(referee, [0.6]) == (1, Verdict(won=(0,), ended="won"))
    assert until_the_end(referee, [0.7, 0.9]) == (2, Verdict(won=(0,), ended="won"))


def test_history():
    """In `history` the first copy trains alone, against all that the other side has been."""
    referee = Referee(replace(TWO, opponents="history", num_copies=3))
    assert referee.active == (0,)
    nobody = [np.nan] * 3
    verdict = referee.observe(np.array([0.99, *nobody[1:]]), np.array([[0.01, 0.01, 0.5], nobody, nobody]))
    assert (verdict, referee.score(0)) == (Verdict(), 0.5)
    verdict = referee.observe(np.array([0.99, *nobody[1:]]), np.array([[0.01, 0.01, 0.01], nobody, nobody]))
    assert verdict == Verdict(won=(0,), ended="won")
    verdict = referee.observe(np.full(3, np.nan), np.array([[0.95, *nobody[1:]]] * 3))
    assert verdict == Verdict(won=(0,), ended="won")
    assert referee.version == 1


def test_no_opponents():
    """Without Ds, Gs train in phases of g_phase_steps, never wait, and each phase is a version."""
    referee = Referee(replace(TWO, g_phase_steps=3), has_discriminators=False)
    verdicts = [referee.observe(np.zeros(0), np.zeros((0, 2))) for _ in range(6)]
    assert [v.ended for v in verdicts] == ["", "", "won", "", "", "won"]
    assert not any(v.roll_back or v.keep or v.restore for v in verdicts)
    assert (referee.phase, referee.version, referee.phases, referee.active) == ("g", 2, 2, (0, 1))


goods = st.sampled_from([0.0, 0.3, 0.5, 0.8, 0.91, 1.0])
scripts = st.lists(st.tuples(goods, goods), min_size=1, max_size=60)
all_rules = st.builds(
    PhaseRules,
    num_copies=st.just(2),
    opponents=st.sampled_from(["population", "history"]),
    d_phase_steps=st.integers(1, 5),
    g_phase_steps=st.integers(1, 5),
    theta_d=st.just(0.9),
    theta_g=st.just(0.75),
    max_rollbacks=st.integers(0, 2),
    averaging_batches=st.integers(1, 3),
)


@given(all_rules, st.booleans(), scripts)
def test_state_round_trip(rules, opponents, script):
    """A referee that is written as JSON and read back after every step decides as one that never was."""
    whole, resumed = Referee(rules, opponents), Referee(rules, opponents)
    for good in script:
        resumed = Referee.from_state(json.loads(json.dumps(resumed.state())))
        assert resumed.observe(*judged(resumed, good)) == whole.observe(*judged(whole, good))
        assert resumed.state() == whole.state()


@given(all_rules, scripts)
def test_every_script_is_played_by_the_rules(rules, script):
    """Whatever happens: phases end in time, nobody rests and rolls back at once, what is restored was kept."""
    referee, kept, steps = Referee(rules), set(), 0
    for good in script:
        before = referee.active
        limit = rules.t_max(referee.phase) * (1 + rules.max_rollbacks)
        verdict, steps = referee.observe(*judged(referee, good)), steps + 1
        assert set(verdict.won) | set(verdict.roll_back) | set(verdict.restore) <= set(before)
        assert not set(verdict.won) & (set(verdict.roll_back) | set(verdict.restore))
        assert not (verdict.ended and verdict.roll_back)
        kept |= set(verdict.keep)
        assert set(verdict.restore) <= kept
        assert steps <= limit
        if verdict.ended:
            kept, steps = set(), 0
            assert referee.active == rules.trainable


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("num_copies", 0, "num_copies must be at least 1, not 0"),
        ("d_phase_steps", 0, "d_phase_steps must be at least 1, not 0"),
        ("g_phase_steps", -1, "g_phase_steps must be at least 1, not -1"),
        ("max_rollbacks", -1, "max_rollbacks must be at least 0, not -1"),
        ("averaging_batches", 0, "averaging_batches must be at least 1, not 0"),
        ("theta_d", 1.5, "theta_d must be between 0 and 1, not 1.5"),
        ("theta_g", -0.1, "theta_g must be between 0 and 1, not -0.1"),
    ],
)
def test_bad_rules_are_refused(name, value, told):
    """A number out of its range is refused by name."""
    with pytest.raises(ValueError, match=told.replace(".", r"\.")):
        PhaseRules(**{name: value})
