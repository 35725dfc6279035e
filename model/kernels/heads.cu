// Queries and keys on their way from the layer `qkv` to attention: normalized, rotated, and each head together; see
// ops/attention.rs, whose reference implementation defines it. Values are read where they lie, and so are queries and keys of blocks
// that neither normalize nor rotate.
//
// Memory-bound. A warp has the queries or the keys of one head of one token; its values meet in shared memory, because a
// rotation mixes a value with another one a quarter of the head away.
#include "common.cuh"

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / WARP_SIZE;
constexpr int MAX_DEPTH = 256;

// What is done to a vector; what is null is left out.
template <class T>
struct Prepare {
    // [depth]
    const T* weight;
    const T* bias;
    float eps;
    // [depth] of the token's position
    const float* cos;
    const float* sin;
};

// One vector of `depth` values through `row`, by one warp, N neighbors at once.
template <int N, class T>
__device__ __forceinline__ void one(const T* __restrict__ from, T* __restrict__ to, const Prepare<T> p, int depth,
                                    float* row) {
    const int first = int(threadIdx.x % WARP_SIZE) * N;
    constexpr int STEP = WARP_SIZE * N;
    float v[N], w[N], b[N];
    float mean = 0, rstd = 1;
    // A lane reads back what it wrote itself, until the rotation.
    for (int k = first; k < depth; k += STEP) {
        load<N>(from + k, v);
#pragma unroll
        for (int i = 0; i < N; i++) {
            row[k + i] = v[i];
            mean += v[i];
        }
    }
    if (p.weight) {
        mean = warp_sum(mean) / float(depth);
        float squares = 0;
        for (int k = first; k < depth; k += STEP) {
#pragma unroll
            for (int i = 0; i < N; i++) squares += (row[k + i] - mean) * (row[k + i] - mean);
        }
        rstd = rsqrtf(warp_sum(squares) / float(depth) + p.eps);
        for (int k = first; k < depth; k += STEP) {
            load<N>(p.weight + k, w);
            load<N>(p.bias + k, b);
#pragma unroll
            for (int i = 0; i < N; i++) row[k + i] = (row[k + i] - mean) * rstd * w[i] + b[i];
        }
    }
    __syncwarp();
    const int quarter = depth / 4;
    for (int k = first; k < depth; k += STEP) {
#pragma unroll
        for (int i = 0; i < N; i++) v[i] = row[k + i];
        if (p.cos) {
            load<N>(p.cos + k, w);
            load<N>(p.sin + k, b);
#pragma unroll
            for (int i = 0; i < N; i++) {
                // The first half of a head turns with the token's row, the second with its column; a pair is a quarter
                // apart. The sign is in the table.
                const int at = k + i;
                const bool low = at < quarter || (at >= 2 * quarter && at < 3 * quarter);
                v[i] = v[i] * w[i] + row[low ? at + quarter : at - quarter] * b[i];
            }
        }
        store<N>(to + k, v);
    }
}

template <class T>
__device__ __forceinline__ void heads_of(const T* qkv, T* q, T* k, const T* q_weight, const T* q_bias, const T* k_weight,
                                         const T* k_bias, const float* cos, const float* sin, int tokens, int n, int heads,
                                         int depth, int positions, float q_eps, float k_eps, int wide) {
    SHARED_ARRAY(float, rows, WARPS * MAX_DEPTH);
    const int warp = threadIdx.x / WARP_SIZE;
    const int64_t vector = int64_t(blockIdx.x) * WARPS + warp;
    // A whole warp leaves together, and no block waits.
    const int parts = k ? 3 : 1;
    const int vectors = k ? 2 * heads : heads;
    if (vector >= int64_t(tokens) * vectors) return;
    const int64_t token = vector / vectors;
    const int index = int(vector % vectors);
    const bool is_key = index >= heads;
    const int head = is_key ? index - heads : index;
    const int64_t position = token % n;
    const T* from = qkv + (token * parts * heads + index) * depth;
    T* to = (is_key ? k : q) + ((token / n * heads + head) * n + position) * depth;
    const int64_t turn = position % positions * depth;
    const Prepare<T> p = {is_key ? k_weight : q_weight, is_key ? k_bias : q_bias, is_key ? k_eps : q_eps,
                          cos ? cos + turn : nullptr, cos ? sin + turn : nullptr};
    float* row = rows + warp * MAX_DEPTH;
    if (wide) {
        one<2>(from, to, p, depth, row);
    } else {
        one<1>(from, to, p, depth, row);
    }
}

// qkv [tokens, 3, heads, depth], where tokens are n of each batch entry; q and k [batch, heads, n, depth]; cos and sin
// [positions, depth], which repeat along n. Without k, qkv has one part, [tokens, heads, depth], which goes to q. depth is at
// most MAX_DEPTH, and a multiple of 4 with rotations. `wide`: it is even and everything lies at 16 bytes.
#define HEADS(T)                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        heads_##T(const T* qkv, T* q, T* k, const T* q_weight, const T* q_bias, const T* k_weight, const T* k_bias,    \
                  const float* cos, const float* sin, int tokens, int n, int heads, int depth, int positions,          \
                  float q_eps, float k_eps, int wide) {                                                                \
        heads_of(qkv, q, k, q_weight, q_bias, k_weight, k_bias, cos, sin, tokens, n, heads, depth, positions, q_eps,   \
                 k_eps, wide);                                                                                         \
    }                                                                                                                  \
    KERNEL_ENTRY(heads_##T)
FOR_EACH_TYPE(HEADS)
