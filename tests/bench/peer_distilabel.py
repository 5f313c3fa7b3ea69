"""What bench_peers measures of distilabel: a pipeline of one `TextGeneration`, with its data on disk.

    python peer_distilabel.py URL QUERIES.txt AT_ONCE FOLDER SYSTEM_TEXT...

A step sends a batch of rows at once, and the next batch when all of them are answered.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main(url: str, file: str, at_once: str, folder: str, *systems: str) -> None:
    queries = Path(file).read_text("utf-8").splitlines()
    rows = [{"instruction": query, "system_prompt": system} for query in queries for system in systems]
    sampling = {"max_new_tokens": 384, "temperature": 1.0, "top_p": 0.9}
    llm = OpenAILLM(model="m0", base_url=url, api_key="EMPTY", generation_kwargs=sampling)
    with Pipeline(name="bench", cache_dir=folder) as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=int(at_once))
        load >> TextGeneration(llm=llm, input_batch_size=int(at_once))
    start = time.perf_counter()
    distiset = pipeline.run(use_cache=False)
    seconds = time.perf_counter() - start
    replies = sum(text is not None for text in distiset["default"]["train"]["generation"])
    print(json.dumps({"seconds": seconds, "replies": replies, "version": version("distilabel")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
