"""A perfect generator is at the ceiling, one that draws at random is at chance; siblings of a drawing do not help."""

from dataclasses import replace

import torch

from daguerre.evaluate.judge import ConceptJudge, Described, StyleJudge, Vectors, fit, score
from tests.evaluate.worlds import STYLES, features, illustrations

REAL = illustrations()
SEEN = features(REAL)
DESCRIBED = Described(SEEN)
STYLES_SEEN, VECTORS = DESCRIBED(SEEN)


def first(ranks):
    return sum(rank == 1 for rank in ranks) / len(ranks)


def test_a_perfect_generator_is_as_good_as_real_pictures():
    judge, drawn = ConceptJudge(VECTORS, REAL), DESCRIBED(features(REAL, seed=1))
    for told in (judge.nearest, judge.probed):
        ceiling = first(told(VECTORS, REAL))
        assert ceiling > 0.5
        assert abs(first(told(drawn.concept, REAL)) - ceiling) < 0.1
    styles = StyleJudge(STYLES_SEEN, REAL)
    assert sum(a == b.style for a, b in zip(styles.told(drawn.style, REAL), REAL, strict=True)) / len(REAL) > 0.95


def test_one_that_ignores_its_prompt_is_at_chance():
    judge, order = ConceptJudge(VECTORS, REAL), torch.randperm(len(REAL), generator=torch.Generator().manual_seed(2))
    drawn = Vectors(*(part[order] for part in DESCRIBED(features(REAL, seed=1))))
    for told in (judge.nearest, judge.probed):
        assert first(told(drawn.concept, REAL)) < 0.12  # of 30 concepts
    told = StyleJudge(STYLES_SEEN, REAL).told(drawn.style, REAL)
    assert 0.1 < sum(a == b.style for a, b in zip(told, REAL, strict=True)) / len(REAL) < 0.4  # of 4 styles


def test_a_drawing_in_another_style_of_its_family_does_not_help():
    """What only the family's drawings have in common tells nothing, unless it is asked for."""
    alone = [replace(item, concept=item.concept + item.family) for item in REAL]
    own = features(alone, noise=0)
    vectors = Described(own)(own).concept
    judge = ConceptJudge(vectors, REAL)
    twins = [item for item in REAL if item.family == "a"]
    places = [item.number for item in twins]
    assert first(judge.nearest(vectors[places], twins, family=True)) > 0.9
    assert first(judge.nearest(vectors[places], twins)) < 0.2
    assert first(judge.probed(vectors[places], twins)) < 0.2


def test_concepts_of_one_family_cannot_be_judged():
    only = [item for item in REAL if item.family == "a" or item.concept != "C3"]
    judge = ConceptJudge(VECTORS[[item.number for item in only]], only)
    assert not judge.judged(REAL[12])
    assert judge.judged(REAL[16])
    assert len(STYLES) == 4


def test_both_ways_to_fit_a_probe_are_one():
    """With fewer examples than features the dual form is solved; features of zeros do not change the answer."""
    random = torch.Generator().manual_seed(0)
    vectors, labels = torch.randn(40, 30, generator=random), torch.arange(40) % 3
    wide = torch.cat([vectors, torch.zeros(40, 30)], dim=1)
    primal, dual = fit(vectors, labels, 3, 0.3), fit(wide, labels, 3, 0.6)
    torch.testing.assert_close(primal, torch.cat([dual[:30], dual[-1:]]), atol=1e-5, rtol=1e-4)
    assert (score(primal, vectors).argmax(dim=1) == labels).float().mean() > 0.8
