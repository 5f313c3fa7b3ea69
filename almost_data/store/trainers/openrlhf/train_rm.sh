set -eu
: "${MODEL:?a folder or a Hub id}"
if [ -d "$MODEL" ]; then MODEL=$(CDPATH= cd -- "$MODEL" && pwd); fi
cd "$(dirname "$0")"
# Set for your model and machine, as arguments of this script:
#   --train.batch_size and --train.micro_batch_size (of a GPU), --data.max_len
# The split of a JSON file is train. Without the --eval options 1% of train.jsonl is read, which may be no row.
deepspeed --module openrlhf.cli.train_rm --model.model_name_or_path "$MODEL" \
   --data.dataset train.jsonl --data.prompt_key prompt \
   --data.chosen_key chosen --data.rejected_key rejected \
   --eval.dataset test.jsonl --eval.split train \
   --data.apply_chat_template \
   --ds.param_dtype bf16 --ds.zero_stage 3 \
   --ckpt.output_dir rm \
   "$@"
