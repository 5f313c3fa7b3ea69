set -eu
: "${MODEL:?a folder or a Hub id}"
if [ -d "$MODEL" ]; then MODEL=$(CDPATH= cd -- "$MODEL" && pwd); fi
cd "$(dirname "$0")"
# Set for your model and machine, as arguments of this script:
#   --micro-batch-size, --gradient-accumulation-steps, --sequence-len (or in dpo.yaml)
#   --deepspeed with a file of `axolotl fetch deepspeed_configs`, where a GPU is too small
axolotl train dpo.yaml --base-model "$MODEL" \
   "$@"
