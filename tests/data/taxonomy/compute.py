"""Computes facts.json: what a pipeline over these entities has to put out, by other means than its plugins.

    pip install networkx==3.4.2 numpy==2.1.3 scikit-learn==1.5.2
    python compute.py > facts.json

Wu-Palmer similarity by the lowest common ancestors and shortest paths of networkx; distances of points by the
eigenvalues of numpy, and the least stress in the same dimension by SMACOF of scikit-learn. Entities whose points are
the same but for rotation and reflection have the same distances, so these are compared, not coordinates.
"""

import itertools
import json
from pathlib import Path

import networkx as nx
import numpy as np
from sklearn.manifold import MDS

HERE = Path(__file__).parent
ATTRIBUTE = "colour"


def load(name):
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def wu_palmer(graph, root, uncounted):
    def of(a, b):
        depth = {one: nx.shortest_path_length(graph, root, one) + 1 - uncounted for one in (a, b)}
        common = nx.lowest_common_ancestor(graph, a, b)
        above = nx.shortest_path_length(graph, root, common) + 1 - uncounted
        below = depth[a] + depth[b]
        return 1.0 if below == 0 else 2 * above / below

    return of


def values(entity):
    value = entity.get(ATTRIBUTE)
    return value if isinstance(value, list) else [] if value in (None, "") else [value]


def compare(one, other, similarity):
    table = np.array([[similarity(a, b) for b in values(other)] for a in values(one)])
    return float((table.max(axis=1).mean() + table.max(axis=0).mean()) / 2)


def classical(distances, dimensions):
    count = len(distances)
    centring = np.eye(count) - np.ones((count, count)) / count
    eigenvalues, vectors = np.linalg.eigh(-0.5 * centring @ distances**2 @ centring)
    kept = np.argsort(eigenvalues)[::-1][:dimensions]
    points = vectors[:, kept] * np.sqrt(np.maximum(eigenvalues[kept], 0))
    positive = eigenvalues[eigenvalues > 0].sum()
    return points, float(np.maximum(eigenvalues[kept], 0).sum() / positive)


def stress(points, distances):
    """Kruskal's stress 1."""
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    return float(np.sqrt(((apart - distances) ** 2).sum() / (distances**2).sum()))


def main():
    taxonomy = load("taxonomy.json")
    graph = nx.DiGraph((edge["source"], edge["target"]) for edge in taxonomy["relations"])
    root = next(node for node, parents in graph.in_degree() if parents == 0)
    entities = [entity for entity in load("entities.json") if values(entity)]
    ids = [entity["ID"] for entity in entities]
    facts = {"ids": ids}
    for name, uncounted in (("rootHasMeaning", 0), ("rootHasNoMeaning", 1)):
        similarity = wu_palmer(graph, root, uncounted)
        facts[name] = {
            "elements": [
                [a, b, similarity(a, b)] for a, b in itertools.combinations(taxonomy["entities"], 2)
            ],
            "entities": [
                [a["ID"], b["ID"], compare(a, b, similarity)]
                for a, b in itertools.combinations_with_replacement(entities, 2)
            ],
        }
    similarities = np.zeros((len(ids), len(ids)))
    for a, b, value in facts["rootHasMeaning"]["entities"]:
        similarities[ids.index(a), ids.index(b)] = similarities[ids.index(b), ids.index(a)] = value
    distances = 1 - similarities
    np.fill_diagonal(distances, 0)
    points, share = classical(distances, 2)
    smacof = MDS(2, dissimilarity="precomputed", normalized_stress=False, random_state=0, n_init=20)
    facts["scaled"] = {
        "share": share,
        "distances": [
            [ids[i], ids[j], float(np.linalg.norm(points[i] - points[j]))]
            for i, j in itertools.combinations(range(len(ids)), 2)
        ],
        "stress": stress(points, distances),
        "leastStress": stress(smacof.fit_transform(distances), distances),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
