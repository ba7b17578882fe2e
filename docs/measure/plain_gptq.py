# Plain GPTQ in PyTorch (Frantar et al., 2022, https://arxiv.org/abs/2210.17323), to compare with: 4 bits, asymmetric, groups of 32; three blocks of the
# 1.1 B shape with random weights, 64 x 512 tokens, one stream. Prints seconds, peak memory and processor seconds.   python3 plain_gptq.py
import time, resource, torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding
torch.set_num_threads(2); torch.manual_seed(0); torch.set_grad_enabled(False)
c = LlamaConfig(hidden_size=2048, intermediate_size=5632, num_hidden_layers=3, num_attention_heads=32, num_key_value_heads=4, vocab_size=32000)
c._attn_implementation = "sdpa"
N, T, BLOCK, GROUP = 64, 512, 128, 32
layers = [LlamaDecoderLayer(c, i).to(torch.bfloat16) for i in range(3)]
rope = LlamaRotaryEmbedding(config=c)
x = torch.randn(N, T, 2048) * 0.02
pos = torch.arange(T)[None]
pe = rope(x[:1], pos)
def grid(w):
    lo, hi = w.min(1, keepdim=True)[0].clamp(max=0), w.max(1, keepdim=True)[0].clamp(min=0)
    s = ((hi - lo) / 15).clamp(min=1e-9); return s, torch.round(-lo / s)
def fasterquant(W, H):
    n = W.shape[1]; dead = torch.diag(H) == 0; H[dead, dead] = 1; W[:, dead] = 0
    d = torch.arange(n); H[d, d] += 0.01 * torch.diag(H).mean()
    H = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(H)), upper=True)
    for a in range(0, n, BLOCK):
        b = min(a + BLOCK, n); W1 = W[:, a:b].clone(); E = torch.zeros_like(W1); U = H[a:b, a:b]
        for i in range(b - a):
            if (a + i) % GROUP == 0: s, z = grid(W[:, a + i:a + i + GROUP] if i == 0 else W1[:, i:i + GROUP])
            w = W1[:, i]; q = (s * (torch.clamp(torch.round(w[:, None] / s) + z, 0, 15) - z)).flatten()
            e = (w - q) / U[i, i]; W1[:, i:] -= e[:, None] @ U[i, i:][None]; W1[:, i] = q; E[:, i] = e
        W[:, a:b] = W1; W[:, b:] -= E @ H[a:b, b:]
    return W
start = time.time()
for i, layer in enumerate(layers):
    layer.float()
    lin = {n: m for n, m in layer.named_modules() if isinstance(m, torch.nn.Linear)}
    Hs = {n: torch.zeros(m.in_features, m.in_features) for n, m in lin.items()}
    def hook(n):
        def add(m, inp, out): X = inp[0].reshape(-1, m.in_features); Hs[n].addmm_(X.t(), X, alpha=2 / N)
        return add
    hs = [m.register_forward_hook(hook(n)) for n, m in lin.items()]
    run = lambda j: layer(x[j:j+1], position_embeddings=pe, position_ids=pos)
    for j in range(N): run(j)
    for h in hs: h.remove()
    for n, m in lin.items(): m.weight.data = fasterquant(m.weight.data.clone(), Hs.pop(n))
    for j in range(N):
        out = run(j); x[j] = (out[0] if isinstance(out, tuple) else out).reshape(T, 2048)
    layer.bfloat16()
    print(f"block {i}: {time.time()-start:.1f} s, peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6:.2f} GB, cpu {time.process_time():.0f} s", flush=True)
