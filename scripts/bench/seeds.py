"""Four seeds of a cell by our trainer, against a plain loop that trains them one after another."""

import tempfile
import time

from configs.compose import load

SEEDS = 4
ITERATIONS = 468  # of an epoch of MNIST at batch 128


def seeds_side_by_side(milliseconds: dict[str, object], precision: str) -> list[dict[str, object]]:
    """LeNet on real MNIST, SGD against the plain loop and SALR against the literal algorithm; ours with start-up and evaluation.

    What the plain loop would take is its measured time an iteration times the iterations: no processes started, no evaluation.
    Empty where LeNet was not timed or MNIST is not there.

    Args:
        milliseconds: an iteration, by contestant, of LeNet in this very run.
    """
    from configs.work import train_seeds
    from data import DataError

    rows: list[dict[str, object]] = []
    for optimizer, against, epochs in (("sgd", "plain SGD", 3), ("sgd_salr", "literal SALR", 1)):
        if against not in milliseconds:
            continue
        with tempfile.TemporaryDirectory() as results:
            options = [f"optimizer={optimizer}", f"trainer.epochs={epochs}", f"trainer.precision={precision}", f"results={results}"]
            config = load(["dataset=mnist", "model=lenet", f"seeds={SEEDS}", *options])
            begun = time.perf_counter()
            try:
                train_seeds(config, list(range(SEEDS)))
            except DataError as error:
                print(f"seeds side by side: {error}")
                return []
            ours = time.perf_counter() - begun
        theirs = SEEDS * epochs * ITERATIONS * float(str(milliseconds[against])) / 1e3
        names = {"optimizer": optimizer, "seeds": SEEDS, "epochs": epochs, "against": f"{against}, one after another"}
        rows.append({**names, "our_seconds": round(ours, 1), "their_seconds": round(theirs, 1), "ratio": round(ours / theirs, 3)})
        print(f"{SEEDS} seeds of {optimizer}, {epochs} epochs: {ours / theirs:.2f} times {against} one after another", flush=True)
    return rows
