"""What bench_peers measures of DataDesigner: one column of text by a model, with its dataset on disk.

python peer_data_designer.py URL QUERIES.txt AT_ONCE FOLDER SYSTEM_TEXT...
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import data_designer.config as dd
from data_designer.interface import DataDesigner


def main(url: str, file: str, at_once: str, folder: str, *systems: str) -> None:
    queries = Path(file).read_text("utf-8").splitlines()
    rows = [{"query": query, "system": system} for query in queries for system in systems]
    seed = Path(folder, "rows.jsonl")
    seed.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    sampling = dd.ChatCompletionInferenceParams(
        max_parallel_requests=int(at_once), max_tokens=384, temperature=1.0, top_p=0.9
    )
    model = dd.ModelConfig(
        alias="m0", model="m0", provider="local", inference_parameters=sampling, skip_health_check=True
    )
    config = dd.DataDesignerConfigBuilder(model_configs=[model])
    config.with_seed_dataset(dd.LocalFileSeedSource(path=str(seed)))
    config.add_column(
        dd.LLMTextColumnConfig(
            name="response", model_alias="m0", prompt="{{ query }}", system_prompt="{{ system }}"
        )
    )
    provider = dd.ModelProvider(name="local", endpoint=url, api_key="EMPTY")
    designer = DataDesigner(artifact_path=folder, model_providers=[provider])
    designer.set_run_config(dd.RunConfig(otel_metrics_port=None))
    start = time.perf_counter()
    results = designer.create(config, num_records=len(rows))
    seconds = time.perf_counter() - start
    replies = int(results.load_dataset()["response"].notna().sum())
    print(json.dumps({"seconds": seconds, "replies": replies, "version": version("data-designer")}))


if __name__ == "__main__":
    main(*sys.argv[1:])
