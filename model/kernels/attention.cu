// softmax(q kᵀ scale) v without the matrix of scores, for every type and depth of heads; see ops/attention.rs, whose
// reference implementation defines it.
//
// Arithmetic in f32 on the ordinary cores: for `--dtype f32`, and for cards and heads that flash_attention.cu does not take.
// The same walk as there, and the same strides.
#include "common.cuh"

// A block is 16 x 16 threads, each with two queries and two keys, or two queries and every 16th element of the result.
constexpr int SIDE = 16;
constexpr int THREADS = SIDE * SIDE;
static_assert(2 * SIDE == WARP_SIZE && THREADS % WARP_SIZE == 0, "the threads of a query are half of a warp");
constexpr int ROWS = 2 * SIDE;
// Of the result, for each query of a thread: depths up to 16 times as many.
constexpr int HELD = 11;

// Rows first .. first + ROWS as f32; from `end` on they are 0. Rows are one element off from a power of two, for the banks.
template <class T>
__device__ __forceinline__ void read_tile(float* to, const T* from, int64_t stride, int first, int end, int depth) {
    for (int row = int(threadIdx.x) / SIDE; row < ROWS; row += SIDE) {
        for (int d = int(threadIdx.x) % SIDE; d < depth; d += SIDE) {
            to[row * (depth + 1) + d] = first + row < end ? load(from + (first + row) * stride + d) : 0.0f;
        }
    }
}

template <class T>
__device__ __forceinline__ void attention(const T* q, const T* k, const T* v, T* out, int m, int n, int heads,
                                          int64_t q_batch, int64_t q_head, int64_t q_row, int64_t k_batch, int64_t k_head,
                                          int64_t k_row, int64_t v_batch, int64_t v_head, int64_t v_row, float scale,
                                          int depth) {
    DYNAMIC_SHARED(shared);
    // [ROWS, depth + 1] queries, and keys or values; [ROWS, ROWS + 1] weights.
    float* queries = reinterpret_cast<float*>(shared);
    float* others = queries + ROWS * (depth + 1);
    float* weights = others + ROWS * (depth + 1);
    const int tiles = (m + ROWS - 1) / ROWS;
    const int first_query = int(blockIdx.x % unsigned(tiles)) * ROWS;
    const int index = int(blockIdx.x / unsigned(tiles));
    const int64_t batch = index / heads, head = index % heads;
    q += batch * q_batch + head * q_head;
    k += batch * k_batch + head * k_head;
    v += batch * v_batch + head * v_head;
    const int y = threadIdx.x / SIDE, x = threadIdx.x % SIDE;

    read_tile(queries, q, q_row, first_query, m, depth);
    float result[2][HELD] = {};
    float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    for (int first = 0; first < n; first += ROWS) {
        read_tile(others, k, k_row, first, n, depth);
        __syncthreads();
        float scores[2][2] = {};
        for (int d = 0; d < depth; d++) {
            float a[2], b[2];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                a[i] = queries[(y + i * SIDE) * (depth + 1) + d];
                b[i] = others[(x + i * SIDE) * (depth + 1) + d];
            }
#pragma unroll
            for (int i = 0; i < 4; i++) scores[i / 2][i % 2] += a[i / 2] * b[i % 2];
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float peak = largest[i];
#pragma unroll
            for (int j = 0; j < 2; j++) {
                if (first + x + j * SIDE >= n) scores[i][j] = -INFINITY;
                peak = fmaxf(peak, scores[i][j]);
            }
            // The 16 threads of a query are half of a warp.
#pragma unroll
            for (int bits = SIDE / 2; bits > 0; bits /= 2) peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, bits));
            const float shrink = exp2f((largest[i] - peak) * scale);
            largest[i] = peak;
            sum[i] *= shrink;
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const float weight = exp2f((scores[i][j] - peak) * scale);
                sum[i] += weight;
                weights[(y + i * SIDE) * (ROWS + 1) + x + j * SIDE] = weight;
            }
#pragma unroll
            for (int j = 0; j < HELD; j++) result[i][j] *= shrink;
        }
        // The keys were read, the weights are written.
        __syncthreads();
        read_tile(others, v, v_row, first, n, depth);
        __syncthreads();
        for (int key = 0; key < ROWS; key++) {
            const float a[2] = {weights[y * (ROWS + 1) + key], weights[(y + SIDE) * (ROWS + 1) + key]};
#pragma unroll
            for (int j = 0; j < HELD; j++) {
                const int d = x + j * SIDE;
                if (d >= depth) break;
                const float b = others[key * (depth + 1) + d];
                result[0][j] += a[0] * b;
                result[1][j] += a[1] * b;
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float all = sum[i];
#pragma unroll
        for (int bits = SIDE / 2; bits > 0; bits /= 2) all += __shfl_xor_sync(0xffffffffu, all, bits);
        const int query = first_query + y + i * SIDE;
        if (query >= m) continue;
        T* to = out + ((batch * m + query) * heads + head) * depth;
#pragma unroll
        for (int j = 0; j < HELD; j++) {
            const int d = x + j * SIDE;
            if (d >= depth) break;
            store(to + d, result[i][j] / all);
        }
    }
}

// q [batch, heads, m, depth], k and v [batch, heads, n, depth] by their strides; out [batch, m, heads, depth]. `scale` is that
// of the scores by log2(e); n is not 0 and depth at most SIDE * HELD.
#define ATTENTION(T)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        attention_##T(const T* q, const T* k, const T* v, T* out, int m, int n, int heads, int64_t q_batch,            \
                      int64_t q_head, int64_t q_row, int64_t k_batch, int64_t k_head, int64_t k_row, int64_t v_batch,  \
                      int64_t v_head, int64_t v_row, float scale, int depth) {                                         \
        attention(q, k, v, out, m, n, heads, q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row,   \
                  scale, depth);                                                                                       \
    }                                                                                                                  \
    KERNEL_ENTRY(attention_##T)
FOR_EACH_TYPE(ATTENTION)
