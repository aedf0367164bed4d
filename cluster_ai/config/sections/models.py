"""Models, and the engine that runs them."""

from __future__ import annotations

from cluster_ai.config.keys import Rules, integer, key, section
from cluster_ai.config.sections.scaling import SCALE

MODEL: Rules = {
    "name": key("Name and tag, as clients ask for it.", form="model", required=True),
    "replicas": key("How many workers serve it; `all`: every worker where it fits.", form="replicas", default=1),
    "resources": key(
        "What one replica needs. One of both keys is enough: the number is the same on a GPU and on a CPU.",
        type="dict",
        default={},
        schema={
            "gpu_memory": key(
                "Memory that one replica takes.", form="size", excludes="memory", absent="estimated, see below"
            ),
            "memory": key(
                "The same; reads better where no worker has a GPU.",
                form="size",
                excludes="gpu_memory",
                absent="estimated, see below",
            ),
        },
    ),
    "source": key(
        "A GGUF file on this machine, copied to the workers. A relative path starts at the folder of cluster.yaml.",
        form="text",
        absent="the model is pulled from Ollama's registry, by `name`",
    ),
    "scale": SCALE,
    "quantize": key(
        "Each worker's engine makes the weights of `source` smaller as it takes them in: q8_0 to about half of F16, "
        "with hardly a loss, q4_K_M to less than a third. `source` must be F16 or F32.",
        type="string",
        allowed=["q4_K_M", "q8_0"],
        absent="they stay as they are",
    ),
    "options": key(
        "Ollama's options for this model. They hold for every request that doesn't set its own.",
        type="dict",
        default={},
        schema={
            "num_ctx": integer(
                "Context window in tokens. The same for every request, so that a model is never loaded anew.", 64
            ),
            "num_predict": integer("Most tokens of one answer; -1: no limit, -2: until the context is full.", -2),
            "num_keep": integer(
                "Tokens at the beginning that are kept when the context overflows; -1: all of the prompt.", -1
            ),
            "num_batch": integer("Tokens of a prompt that are read at once.", 1),
            "num_gpu": integer("Layers on the GPU; -1: as many as fit.", -1),
            "main_gpu": integer("The card that keeps small tensors.", 0),
            "num_thread": integer("CPU threads; 0: Ollama decides.", 0),
            "use_mmap": key("Map the file into memory instead of reading it.", type="boolean"),
            "seed": integer("Start of the random numbers.", -1),
            "temperature": key("Freedom of the choice of words; 0: none.", type="number", min=0),
            "top_k": integer("Choose among so many tokens; 0: all.", 0),
            "top_p": key("Choose among the likeliest tokens that make up this share.", type="number", min=0, max=1),
            "min_p": key("Leave out tokens less likely than this share of the likeliest.", type="number", min=0, max=1),
            "typical_p": key("Locally typical sampling; 1: off.", type="number", min=0, max=1),
            "repeat_last_n": integer("How far back repetition is looked for; -1: the whole context.", -1),
            "repeat_penalty": key("Above 1: repetition becomes rarer.", type="number", min=0),
            "presence_penalty": key("Makes tokens rarer that were there already.", type="number"),
            "frequency_penalty": key("Makes tokens rarer the more often they were there.", type="number"),
            "stop": key("Text at which an answer ends.", type="string"),
        },
    ),
}

ENGINE: Rules = section(
    "Ollama, on every worker.",
    {
        "version": key("Ollama's release.", form="release", default="0.17.4"),
        "source": key(
            "Address of a release archive, or path of an archive or of a binary on this machine.",
            form="text",
            absent="the known archive of `version`",
        ),
        "sha256": key(
            "What the file named by `source` must hash to.",
            form="sha256",
            absent="cluster.lock remembers the first download",
        ),
        "parallel": integer(
            "Requests that one worker runs at once for each model. Each takes memory of its own.", 1, 64, default=1
        ),
        "context_length": integer(
            "Context window in tokens, for models without `options.num_ctx`.", 64, 10_000_000, default=4096
        ),
        "keep_alive": key("How long an unused model stays loaded.", form="duration", default="24h"),
        "kv_cache_type": key(
            "Precision of the context's cache: q8_0 takes half the memory, q4_0 a quarter.",
            type="string",
            allowed=["f16", "q8_0", "q4_0"],
            default="f16",
        ),
    },
)
