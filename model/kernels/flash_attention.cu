// softmax(q kᵀ scale) v without the matrix of scores; see ops/attention.rs, whose reference implementation defines it.
//
// For heads of 64 channels of 16 bits, on tensor cores; attention.cu takes the others. A block has some queries of one head
// and walks over the keys, tile by tile, with a running maximum and sum for each query. Queries, keys and values are read
// where they lie, by strides; the result is written [batch, m, heads, depth].
#include "tensor_cores.cuh"

constexpr int DEPTH = 64;
constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP_SIZE;
// Queries of a warp, in tiles of 16: two, so that every key from shared memory meets two of them. With one the tensor
// cores would wait for shared memory.
constexpr int QUERY_TILES = 2;
constexpr int QUERIES = WARPS * QUERY_TILES * 16;
constexpr int KEYS = 64;
// Keys, or channels of the result, in steps of 8: the width of a product.
constexpr int COLUMN_TILES = KEYS / 8;
constexpr int DEPTH_TILES = DEPTH / 8;
// Elements that a product sums up.
constexpr int SUMMED = 16;
constexpr int ROW_BYTES = DEPTH * 2;
// Shared memory: the queries, and keys and values twice, so that the next tile comes while this one is used.
constexpr int TILE_BYTES = KEYS * ROW_BYTES;
constexpr int QUERY_BYTES = QUERIES * ROW_BYTES;

// Where 16 bytes of a row are. A row has 128 bytes, exactly the width of shared memory's 32 banks, so that without further
// measures the same chunk of all rows would lie in the same four banks, and ldmatrix, which reads one chunk of eight rows at
// a time, would take eight turns. The number of the chunk is combined with that of the row by exclusive or: of eight
// successive rows each has its chunk c at another of the eight positions, so that a read touches all banks once. The chunks
// of a row stay within the row, so that copy_tile, which writes whole rows, has no conflicts either. Padding every row to
// 144 bytes would do the same, but 384 rows of 128 bytes are already the 48 KiB that every card gives a block.
__device__ __forceinline__ int chunk_at(int row, int chunk) { return row * ROW_BYTES + ((chunk ^ (row % 8)) * 16); }

// Rows first .. first + ROWS to shared memory; from `end` on they are 0.
template <int ROWS, class T>
__device__ __forceinline__ void copy_tile(unsigned char* to, const T* from, int64_t stride, int first, int end) {
    constexpr int CHUNKS = ROW_BYTES / 16;
#pragma unroll
    for (int i = 0; i < ROWS * CHUNKS / THREADS; i++) {
        const int at = i * THREADS + int(threadIdx.x);
        const int row = at / CHUNKS, chunk = at % CHUNKS;
        const bool valid = first + row < end;
        const T* source = from + (valid ? first + row : 0) * stride + chunk * 8;
        copy_async(to + chunk_at(row, chunk), source, valid);
    }
}

template <class T>
__device__ __forceinline__ void flash(const T* q, const T* k, const T* v, T* out, int m, int n, int heads, int64_t q_batch,
                                      int64_t q_head, int64_t q_row, int64_t k_batch, int64_t k_head, int64_t k_row,
                                      int64_t v_batch, int64_t v_head, int64_t v_row, float scale) {
    DYNAMIC_SHARED(shared);
    const int tiles = (m + QUERIES - 1) / QUERIES;
    // Neighboring blocks have the same keys, for the cache.
    const int first_query = int(blockIdx.x % unsigned(tiles)) * QUERIES;
    const int index = int(blockIdx.x / unsigned(tiles));
    const int64_t batch = index / heads, head = index % heads;
    q += batch * q_batch + head * q_head;
    k += batch * k_batch + head * k_head;
    v += batch * v_batch + head * v_head;
    const int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
    // Which row of which of the four matrices of a load this lane points at.
    const int matrix = lane / 8, in_matrix = lane % 8;

    const int key_tiles = (n + KEYS - 1) / KEYS;
    auto keys_of = [&](int tile) { return shared + QUERY_BYTES + tile % 2 * 2 * TILE_BYTES; };
    auto fetch = [&](int tile) {
        copy_tile<KEYS>(keys_of(tile), k, k_row, tile * KEYS, n);
        copy_tile<KEYS>(keys_of(tile) + TILE_BYTES, v, v_row, tile * KEYS, n);
        copy_commit();
    };
    copy_tile<QUERIES>(shared, q, q_row, first_query, m);
    fetch(0);
    copy_wait<0>();
    __syncthreads();

    uint32_t queries[QUERY_TILES][DEPTH / SUMMED][4];
#pragma unroll
    for (int t = 0; t < QUERY_TILES; t++) {
#pragma unroll
        for (int s = 0; s < DEPTH / SUMMED; s++) {
            const int row = (warp * QUERY_TILES + t) * 16 + matrix % 2 * 8 + in_matrix;
            load_matrices(queries[t][s], shared + chunk_at(row, s * 2 + matrix / 2));
        }
    }

    // Of each tile of queries a lane has two rows, lane / 4 and that + 8, and of each product two neighboring columns.
    float result[QUERY_TILES][DEPTH_TILES][4] = {};
    float largest[QUERY_TILES][2], sum[QUERY_TILES][2] = {};
#pragma unroll
    for (int t = 0; t < QUERY_TILES; t++) largest[t][0] = largest[t][1] = -INFINITY;

    for (int tile = 0; tile < key_tiles; tile++) {
        if (tile + 1 < key_tiles) {
            fetch(tile + 1);
            copy_wait<1>();
        } else {
            copy_wait<0>();
        }
        __syncthreads();
        const unsigned char* keys = keys_of(tile);
        const unsigned char* values = keys + TILE_BYTES;

        float scores[QUERY_TILES][COLUMN_TILES][4] = {};
#pragma unroll
        for (int s = 0; s < DEPTH / SUMMED; s++) {
#pragma unroll
            for (int c = 0; c < COLUMN_TILES; c += 2) {
                uint32_t b[4];
                const int row = c * 8 + matrix / 2 * 8 + in_matrix;
                load_matrices(b, keys + chunk_at(row, s * 2 + matrix % 2));
#pragma unroll
                for (int t = 0; t < QUERY_TILES; t++) {
                    multiply_add<T>(scores[t][c], queries[t][s], b[0], b[1]);
                    multiply_add<T>(scores[t][c + 1], queries[t][s], b[2], b[3]);
                }
            }
        }
        if ((tile + 1) * KEYS > n) {
#pragma unroll
            for (int c = 0; c < COLUMN_TILES; c++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    if (tile * KEYS + c * 8 + lane % 4 * 2 + i % 2 < n) continue;
#pragma unroll
                    for (int t = 0; t < QUERY_TILES; t++) scores[t][c][i] = -INFINITY;
                }
            }
        }

#pragma unroll
        for (int t = 0; t < QUERY_TILES; t++) {
#pragma unroll
            for (int r = 0; r < 2; r++) {
                float peak = largest[t][r];
#pragma unroll
                for (int c = 0; c < COLUMN_TILES; c++) {
                    peak = fmaxf(peak, fmaxf(scores[t][c][2 * r], scores[t][c][2 * r + 1]));
                }
                // The four lanes of a row.
                peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 1));
                peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 2));
                // The maximum is scaled once a row, so that the exponent of each weight is a single fused multiply-add. The
                // rounding of `scaled` is the same in `shrink` and in the weights: it cancels when the sum divides.
                // 0 for the first tile, whose keys are never all masked: `peak` is finite.
                const float scaled = peak * scale;
                const float shrink = exp2_approximate(largest[t][r] * scale - scaled);
                largest[t][r] = peak;
                float added = 0;
#pragma unroll
                for (int c = 0; c < COLUMN_TILES; c++) {
#pragma unroll
                    for (int i = 2 * r; i < 2 * r + 2; i++) {
                        scores[t][c][i] = exp2_approximate(fmaf(scores[t][c][i], scale, -scaled));
                        added += scores[t][c][i];
                    }
                }
                sum[t][r] = sum[t][r] * shrink + added;
#pragma unroll
                for (int d = 0; d < DEPTH_TILES; d++) {
                    result[t][d][2 * r] *= shrink;
                    result[t][d][2 * r + 1] *= shrink;
                }
            }
        }

        // What a lane has of two neighboring products of scores is just what it has to have of the left side here.
#pragma unroll
        for (int s = 0; s < KEYS / SUMMED; s++) {
            uint32_t weights[QUERY_TILES][4];
#pragma unroll
            for (int t = 0; t < QUERY_TILES; t++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float* p = &scores[t][2 * s + i / 2][i % 2 * 2];
                    weights[t][i] = pack<T>(p[0], p[1]);
                }
            }
#pragma unroll
            for (int d = 0; d < DEPTH_TILES; d += 2) {
                uint32_t b[4];
                const int row = s * SUMMED + matrix % 2 * 8 + in_matrix;
                load_matrices_transposed(b, values + chunk_at(row, d + matrix / 2));
#pragma unroll
                for (int t = 0; t < QUERY_TILES; t++) {
                    multiply_add<T>(result[t][d], weights[t], b[0], b[1]);
                    multiply_add<T>(result[t][d + 1], weights[t], b[2], b[3]);
                }
            }
        }
        // Before the next round overwrites what was read here.
        __syncthreads();
    }

#pragma unroll
    for (int t = 0; t < QUERY_TILES; t++) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float all = sum[t][r];
            all += __shfl_xor_sync(0xffffffffu, all, 1);
            all += __shfl_xor_sync(0xffffffffu, all, 2);
            // One division a row; the products with it are rounded to 16 bits.
            const float inverse = 1.0f / all;
            const int query = first_query + (warp * QUERY_TILES + t) * 16 + r * 8 + lane / 4;
            if (query >= m) continue;
            T* to = out + ((batch * m + query) * heads + head) * DEPTH + lane % 4 * 2;
#pragma unroll
            for (int d = 0; d < DEPTH_TILES; d++) {
                const float both[2] = {result[t][d][2 * r] * inverse, result[t][d][2 * r + 1] * inverse};
                store<2>(to + d * 8, both);
            }
        }
    }
}

// q [batch, heads, m, 64], k and v [batch, heads, n, 64] by their strides, with rows at 16 bytes; out [batch, m, heads, 64].
// `scale` is that of the scores by log2(e); n is not 0.
#if HAS_TENSOR_CORES
#define FLASH_BODY                                                                                                     \
    flash(q, k, v, out, m, n, heads, q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row, scale)
#else
// Not called: see ops/cuda/attention.rs.
#define FLASH_BODY __trap()
#endif
#define FLASH(T)                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        flash_##T(const T* q, const T* k, const T* v, T* out, int m, int n, int heads, int64_t q_batch,                \
                  int64_t q_head, int64_t q_row, int64_t k_batch, int64_t k_head, int64_t k_row, int64_t v_batch,      \
                  int64_t v_head, int64_t v_row, float scale) {                                                        \
        FLASH_BODY;                                                                                                    \
    }                                                                                                                  \
    KERNEL_ENTRY(flash_##T)
FLASH(f16)
FLASH(bf16)
