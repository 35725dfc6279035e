// Kernels with one fault each, which the tests' stand-in for CUDA has to find, and one without.
#include "tensor_cores.cuh"

// Reverses the values of a block through shared memory.
extern "C" __global__ void good(const float* x, float* y, int n) {
    SHARED_ARRAY(float, values, 64);
    const int i = threadIdx.x;
    values[i] = load(x + i);
    __syncthreads();
    store(y + i, values[n - 1 - i]);
}
KERNEL_ENTRY(good)

// Half of the threads go past the barrier.
extern "C" __global__ void divergent_barrier(const float* x, float* y, int n) {
    const int i = threadIdx.x;
    if (i < n / 2) __syncthreads();
    store(y + i, load(x + i));
}
KERNEL_ENTRY(divergent_barrier)

// The lanes of a warp meet at different operations.
extern "C" __global__ void divergent_shuffle(const float* x, float* y, int) {
    const int i = threadIdx.x;
    float v = load(x + i);
    if (i % 2) {
        v = __shfl_xor_sync(0xffffffffu, v, 1);
    } else {
        __syncwarp();
    }
    store(y + i, v);
}
KERNEL_ENTRY(divergent_shuffle)

// `good` with a barrier of the warp where one of the block is needed: right only when the warps run in step.
extern "C" __global__ void missing_barrier(const float* x, float* y, int n) {
    SHARED_ARRAY(float, values, 64);
    const int i = threadIdx.x;
    values[i] = load(x + i);
    __syncwarp();
    store(y + i, values[n - 1 - i]);
}
KERNEL_ENTRY(missing_barrier)

extern "C" __global__ void reads_outside(const float* x, float* y, int) {
    const int i = threadIdx.x;
    store(y + i, load(x + i + 1));
}
KERNEL_ENTRY(reads_outside)

extern "C" __global__ void writes_the_input(const float* x, float* y, int) {
    const int i = threadIdx.x;
    store(const_cast<float*>(x) + i, load(y + i));
}
KERNEL_ENTRY(writes_the_input)

extern "C" __global__ void unaligned_vector(const float* x, float* y, int) {
    float v[4];
    load<4>(x + threadIdx.x, v);
    store(y + threadIdx.x, v[0]);
}
KERNEL_ENTRY(unaligned_vector)

extern "C" __global__ void writes_beyond_shared(const float* x, float* y, int) {
    DYNAMIC_SHARED(bytes);
    float* values = reinterpret_cast<float*>(bytes);
    const int i = threadIdx.x;
    values[i + 1] = load(x + i);
    __syncthreads();
    store(y + i, values[i + 1]);
}
KERNEL_ENTRY(writes_beyond_shared)

// Copies 16 bytes and reads them; WAITS says whether it waits for the copy before it does, or after, or never.
template <int WAITS>
__device__ void copied(const float* x, float* y) {
    SHARED_ARRAY(float, values, 4 * WARP_SIZE);
    const int i = threadIdx.x;
    if (i < WARP_SIZE / 2) {
        copy_async(values + 4 * i, x + 4 * i, true);
        copy_commit();
        if (WAITS == 0) copy_wait<0>();
    }
    __syncthreads();
    store(y + i, values[i]);
    if (i < WARP_SIZE / 2 && WAITS == 1) copy_wait<0>();
}
extern "C" __global__ void copy_waited_for(const float* x, float* y, int) { copied<0>(x, y); }
KERNEL_ENTRY(copy_waited_for)
extern "C" __global__ void copy_waited_for_late(const float* x, float* y, int) { copied<1>(x, y); }
KERNEL_ENTRY(copy_waited_for_late)
extern "C" __global__ void copy_forgotten(const float* x, float* y, int) { copied<2>(x, y); }
KERNEL_ENTRY(copy_forgotten)

// No fault: rounds values, and rounds what they became once more.
template <class T>
__device__ void convert(const float* x, T* y, int n) {
    for (int i = threadIdx.x; i < n; i += WARP_SIZE) store(y + i, to_float(from_float<T>(load(x + i))));
}
extern "C" __global__ void convert_f16(const float* x, f16* y, int n) { convert(x, y, n); }
KERNEL_ENTRY(convert_f16)
extern "C" __global__ void convert_bf16(const float* x, bf16* y, int n) { convert(x, y, n); }
KERNEL_ENTRY(convert_bf16)
