"""What bench_peers measures of `almost_data`: `build responses`, with its journal, dataset and card.

python peer_almost_data.py URL QUERIES.txt AT_ONCE FOLDER SYSTEM_TEXT...
"""

import json
import sys
import time
from importlib.metadata import version

from almost_data import Store, import_queries, prepare


def main(url: str, file: str, at_once: str, folder: str, *systems: str) -> None:
    import_queries(Store(folder), file, "1.0.0")
    responders = ", ".join(
        f"{{name='m0-{number}', model='m0', style='chat', max_new_tokens=384, system='{system}'}}"
        for number, system in enumerate(systems)
    )
    run = prepare(
        "openai",
        root=folder,
        version="1.0.0",
        base_url=(url,),
        assignments=(f"responses.responders=[{responders}]", f"engine.concurrency={at_once}"),
    )
    start = time.perf_counter()
    steps = run.build("responses")
    seconds = time.perf_counter() - start
    replies = Store(folder)[steps[-1].manifest.ref].frame()["response"].drop_nulls().len()
    print(json.dumps({"seconds": seconds, "replies": replies, "version": version("almost_data")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
