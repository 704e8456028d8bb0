"""What booby-trapped checkpoints consist of, and a watch that sees what a load must never do."""

import json
import os
import pickle
import struct
import sys

# --- what must never happen, seen by the interpreter itself ------------------------------------

FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty",
    "subprocess.Popen", "pickle.find_class", "socket.connect", "socket.getaddrinfo",
    "socket.gethostbyname",
)  # fmt: skip
CODE = (".py", ".pyc", ".bin", ".pt", ".pth", ".pkl", ".ckpt", ".so", ".jinja", ".npy")


class Watch:
    """Records forbidden events while it is on; audit hooks cannot be removed, so there is one."""

    def __init__(self) -> None:
        self.directory: str | None = None
        self.outside = ""
        self.events: list[str] = []

    def __call__(self, event: str, args: tuple) -> None:
        if self.directory is None:
            return
        if event in FORBIDDEN:
            self.events.append(event)
        elif event == "open" and isinstance(args[0], (str, bytes)):
            path = os.path.abspath(os.fsdecode(args[0]))
            if path.startswith(self.outside) or path == "/dev/zero":
                self.events.append(f"opened {path}")
            if path.startswith(self.directory) and path.endswith(CODE):
                self.events.append(f"opened {path}")
        elif event == "import" and str(args[1] or "").startswith(self.directory):
            self.events.append(f"imported {args[0]}")


WATCH = Watch()
sys.addaudithook(WATCH)


class Trap:
    """A copy of a good checkpoint with one thing changed, and a canary that code would create."""

    def __init__(self, directory, outside) -> None:
        self.directory, self.outside = directory, outside
        self.canary = outside.parent / "canary"
        self.python = f"open({str(self.canary)!r}, 'w').close()"
        self.jinja = (
            "{{ cycler.__init__.__globals__.os.popen('touch "
            + str(self.canary)
            + "').read() }}{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}"
        )

    def pickle(self) -> bytes:
        class Payload:
            def __init__(self, path):
                self.path = path

            def __reduce__(self):
                return open, (self.path, "w")

        return pickle.dumps(Payload(str(self.canary)))

    def write(self, name: str, content: bytes | str) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def edit(self, name: str, *path: str, **changes: object) -> None:
        data = json.loads((self.directory / name).read_text()) if self.has(name) else {}
        part = data
        for step in path:
            part = part[step]
        part.update(changes)
        self.write(name, json.dumps(data))

    def has(self, name: str) -> bool:
        return (self.directory / name).exists()

    def link(self, name: str, target: object) -> None:
        (self.directory / name).unlink(missing_ok=True)
        (self.directory / name).symlink_to(target)

    def shards(self, name: str) -> None:
        """Replace the single file by an index whose first tensor is said to be in `name`."""
        (self.directory / "model.safetensors").rename(self.directory / "real.safetensors")
        stored = json.loads(raw_header(self.directory / "real.safetensors"))
        keys = [key for key in stored if key != "__metadata__"]
        files = dict.fromkeys(keys, "real.safetensors") | {keys[0]: name}
        self.write("model.safetensors.index.json", json.dumps({"weight_map": files}))


def raw_header(path) -> bytes:
    raw = path.read_bytes()
    return raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]]


def config_trap(*path, **changes):
    return lambda trap: trap.edit("config.json", *path, **changes)


def code_trap(name):
    return lambda trap: trap.write(name, trap.python)


def pickle_trap(name, *, alone=False):
    def spring(trap):
        if alone:
            (trap.directory / "model.safetensors").unlink()
        trap.write(name, trap.pickle())

    return spring


def shard_trap(name):
    return lambda trap: trap.shards(name.replace("OUTSIDE", str(trap.outside)))


def link_trap(name, target):
    return lambda trap: trap.link(name, target.replace("OUTSIDE", str(trap.outside)))


def jinja_trap(name, key):
    return lambda trap: trap.edit(name, **{key: trap.jinja})


def fifo_trap(name):
    def spring(trap):
        (trap.directory / name).unlink()
        os.mkfifo(trap.directory / name)

    return spring


def header_trap(change):
    def spring(trap):
        path = trap.directory / "model.safetensors"
        header = json.loads(raw_header(path))
        data = path.read_bytes()[8 + len(raw_header(path)) :]
        text = json.dumps(change(header, trap)).encode()
        trap.write("model.safetensors", struct.pack("<Q", len(text)) + text + data)

    return spring


def renamed(name):
    def change(header, _):
        key = next(key for key in header if key != "__metadata__")
        header[name] = header.pop(key)
        return header

    return change


def first_entry(**changes):
    def change(header, _):
        key = next(key for key in header if key != "__metadata__")
        header[key].update(changes)
        return header

    return change


AUTO_MAP = {"AutoModel": "modeling_evil.Model", "AutoTokenizer": ["evil.Tokenizer", None]}
REMOTE = {"AutoModel": "attacker/repository--modeling_evil.Model"}
TRAPS = {
    "auto_map": config_trap(auto_map=AUTO_MAP),
    "auto_map of the decoder": config_trap("llm_config", auto_map=AUTO_MAP),
    "auto_map of the encoder": config_trap("vision_config", auto_map=AUTO_MAP),
    "auto_map of another repository": config_trap(auto_map=REMOTE),
    "custom pipelines": config_trap(custom_pipelines={"x": {"impl": "evil.Pipe", "pt": ["A"]}}),
    "trust_remote_code": config_trap(trust_remote_code=True),
    "name of a remote model": config_trap(_name_or_path="https://127.0.0.1:9/evil"),
    "remote kernels": config_trap("llm_config", _attn_implementation="attacker/kernel:evil"),
    "remote kernels 2": config_trap(_attn_implementation_internal="attacker/kernel"),
    "type as code": config_trap(torch_dtype="__import__('os').system('touch x')"),
    "template as path": config_trap(template="../../../../etc/passwd"),
    "template as code": config_trap(template="{{ ''.__class__ }}"),
    "system message as template": lambda trap: trap.edit("config.json", system_message=trap.jinja),
    "class with a module": config_trap(architectures=["os.system"]),
    "class of the decoder": config_trap("llm_config", architectures=["evil.Model"]),
    "activation as code": config_trap("llm_config", hidden_act="os.system"),
    "norm as code": config_trap("vision_config", norm_type="__import__('os')"),
    "rope as code": config_trap("llm_config", rope_scaling={"type": "__import__('os')"}),
    "quantiser with code": config_trap(quantization_config={"quant_method": "evil.py"}),
    "adapter beside": config_trap(use_llm_lora=8, peft_path="../evil"),
    "attribute names": config_trap(__class__="x", __init__={"a": 1}, __dict__=[]),
    "format string": config_trap(template="{0.__class__.__init__.__globals__}%s%n"),
    "tokenizer class": config_trap(tokenizer_class="evil.Tokenizer"),
    "modeling file": code_trap("modeling_internvl_chat.py"),
    "configuration file": code_trap("configuration_internvl_chat.py"),
    "tokenization file": code_trap("tokenization_internlm2.py"),
    "conversation file": code_trap("conversation.py"),
    "package file": code_trap("__init__.py"),
    "site file": code_trap("sitecustomize.py"),
    "shadow of torch": code_trap("torch.py"),
    "shadow of safetensors": code_trap("safetensors/__init__.py"),
    "compiled file": code_trap("modeling_evil.so"),
    "path file": code_trap("evil.pth"),
    "custom generate": code_trap("custom_generate/generate.py"),
    "pickle beside": pickle_trap("pytorch_model.bin"),
    "pickle alone": pickle_trap("pytorch_model.bin", alone=True),
    "pth alone": pickle_trap("model.pth", alone=True),
    "training arguments": pickle_trap("training_args.bin"),
    "optimizer": pickle_trap("optimizer.pt"),
    "adapter": pickle_trap("adapter_model.bin"),
    "pickle named safetensors": pickle_trap("model.safetensors"),
    "pickle named config": pickle_trap("config.json"),
    "pickle named tokenizer.model": pickle_trap("tokenizer.model"),
    "pickle named tokenizer.json": pickle_trap("tokenizer.json"),
    "pickle named special tokens": pickle_trap("special_tokens_map.json"),
    "numpy pickle": pickle_trap("positions.npy"),
    "shard of the parent": shard_trap("../outside/secret.safetensors"),
    "shard absolute": shard_trap("OUTSIDE/secret.safetensors"),
    "shard with backslash": shard_trap("..\\outside\\secret.safetensors"),
    "shard as file URL": shard_trap("file://OUTSIDE/secret.safetensors"),
    "shard as URL": shard_trap("http://127.0.0.1:9/x.safetensors"),
    "shard with NUL": shard_trap("real.safetensors\0.safetensors"),
    "shard of the home": shard_trap("~/secret.safetensors"),
    "shard is a pickle": shard_trap("pytorch_model.bin"),
    "shard is a dot": shard_trap("..safetensors/../.safetensors"),
    "shard is the directory": shard_trap("."),
    "weights link outside": link_trap("model.safetensors", "OUTSIDE/secret.safetensors"),
    "weights link relative": link_trap("model.safetensors", "../outside/secret.safetensors"),
    "config link outside": link_trap("config.json", "OUTSIDE/secret.json"),
    "weights are endless": link_trap("model.safetensors", "/dev/zero"),
    "config is endless": link_trap("config.json", "/dev/zero"),
    "link to itself": link_trap("model.safetensors", "model.safetensors"),
    "link to the directory": link_trap("model.safetensors", "."),
    "pipe for weights": fifo_trap("model.safetensors"),
    "pipe for config": fifo_trap("config.json"),
    "chat template": jinja_trap("tokenizer_config.json", "chat_template"),
    "chat template file": lambda trap: trap.write("chat_template.jinja", trap.jinja),
    "chat template in JSON": jinja_trap("chat_template.json", "chat_template"),
    "tokenizer auto_map": lambda trap: trap.edit("tokenizer_config.json", auto_map=AUTO_MAP),
    "tokenizer path": lambda trap: trap.edit("tokenizer_config.json", vocab_file="/etc/passwd"),
    "token with a template": lambda trap: trap.edit("added_tokens.json", **{trap.jinja: 99}),
    "generation with code": lambda trap: trap.edit("generation_config.json", custom_generate="a/b"),
    "preprocessor with code": lambda trap: trap.edit("preprocessor_config.json", auto_map=AUTO_MAP),
    "metadata with code": header_trap(lambda h, t: h | {"__metadata__": {"format": t.python}}),
    "tensor named as attribute": header_trap(renamed("__class__.__init__.__globals__")),
    "tensor named as path": header_trap(renamed("../../../canary")),
    "dtype as code": header_trap(first_entry(dtype="os.system")),
    "offsets beyond the file": header_trap(first_entry(data_offsets=[2**62, 2**62 + 4])),
    "shape that overflows": header_trap(first_entry(shape=[2**32, 2**32], data_offsets=[0, 0])),
    "header of 2**63 bytes": lambda trap: trap.write("model.safetensors", struct.pack("<Q", 2**63)),
}  # fmt: skip

REFUSED = {
    "activation as code", "adapter beside", "class of the decoder", "class with a module",
    "config is endless", "config link outside", "dtype as code", "header of 2**63 bytes",
    "link to itself", "link to the directory", "norm as code", "offsets beyond the file",
    "pickle alone", "pickle named config", "pickle named safetensors", "pipe for config",
    "pipe for weights", "pth alone", "quantiser with code", "rope as code",
    "shape that overflows", "shard absolute", "shard as URL", "shard as file URL",
    "shard is a dot", "shard is a pickle", "shard is the directory", "shard of the home",
    "shard of the parent", "shard with NUL", "shard with backslash",
    "tensor named as attribute", "tensor named as path", "weights are endless",
    "weights link outside", "weights link relative",
}  # fmt: skip
