set -eu
: "${MODEL:?a folder or a Hub id}"
if [ -d "$MODEL" ]; then MODEL=$(CDPATH= cd -- "$MODEL" && pwd); fi
: "${TEMPLATE:?a chat template by its name there}"
cd "$(dirname "$0")"
# Set for your model and machine, as arguments of this script:
#   --per_device_train_batch_size and --gradient_accumulation_steps, --cutoff_len
#   MODEL must have tie_word_embeddings = false in its config.json: 0.9.5 cannot save a tied one
#   --deepspeed with a file of its examples/deepspeed, where a GPU is too small
llamafactory-cli train --stage rm --do_train --model_name_or_path "$MODEL" \
   --template "$TEMPLATE" --dataset_dir . --dataset almost_train --finetuning_type full \
   --learning_rate 2.0e-5 --num_train_epochs 1 --lr_scheduler_type cosine \
   --bf16 --output_dir rm \
   "$@"
