// Stands in for CUDA where a kernel is compiled as plain C++: the same source then runs on the CPU, in the tests.
//
// Every CUDA thread is a fiber of one OS thread. A fiber runs until it waits at a barrier; warps meet at shuffles, matrix
// instructions and __syncwarp, blocks at __syncthreads; a warp runs as far as it gets before the next one, and blocks run one
// after the other. A launch fails with a message
//   - when threads of a warp or of a block wait at different places, or some have ended where others wait,
//   - when a load or a store of global memory leaves the buffers that the launch was given, writes one it may only read, or
//     is not aligned to its size,
//   - when shared memory is touched beyond its end, as far as guard zones and the matrix and copy instructions see it,
//   - when the arguments have other sizes than the kernel's parameters.
// Shared memory holds NaN before it is written. Each launch has an order in which threads take turns, and whether an
// asynchronous copy happens when it is asked for or only when it is waited for: a missing barrier shows as numbers that
// depend on it.
//
// Not seen: races that no order of whole runs between barriers shows, bank conflicts, occupancy, speed, and what the
// hardware rounds otherwise.
#pragma once
#include <csetjmp>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <ucontext.h>
#include <utility>
#include <vector>

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

namespace cuda_cpu {

// Memory that a launch may touch. Shared with tests/kernels/emulator.rs, as is Launch.
struct Buffer {
    char* start;
    size_t bytes;
    uint32_t writable;
};

struct Launch {
    uint32_t grid[3];
    uint32_t block;
    uint32_t shared_bytes;
    // 0: warps and their lanes in their order, 1: backwards, else shuffled. Copies of odd orders are not delayed.
    uint32_t order;
    const Buffer* buffers;
    size_t buffer_count;
    // Null where only the kernel knows them, as in a launch by CUDA's driver.
    const uint32_t* argument_sizes;
    size_t argument_count;
};

constexpr unsigned WARP = 32;
constexpr size_t STACK = 64 << 10;
constexpr size_t GUARD = 256;
// NaN in f32, f16 and bf16.
constexpr unsigned char POISON = 0xff;
constexpr unsigned char GUARD_BYTE = 0xa5;

enum class State : unsigned char { ready, in_warp, in_block, ended };

// What a lane shows to its warp.
struct Slot {
    alignas(16) unsigned char bytes[32];
};

struct Copy {
    char* to;
    const char* from;
    unsigned group;
};

struct Thread {
    jmp_buf at;
    ucontext_t start;
    dim3 index;
    State state;
    bool started;
    // The operation it waits in.
    const char* operation;
    // Lanes of a warp are at most one operation apart, so that two slots never meet.
    unsigned turn;
    Slot slots[2];
    std::vector<Copy> copies;
    unsigned group;
};

struct SharedArray {
    const void* tag;
    char* start;
    size_t bytes;
};

struct Machine {
    const Launch* launch = nullptr;
    dim3 grid, block, block_index;
    std::vector<Thread> threads;
    std::vector<std::unique_ptr<char[]>> stacks;
    std::vector<unsigned> warp_order, lane_order;
    std::function<void()> body;
    jmp_buf scheduler;
    std::vector<char> dynamic_shared;
    std::vector<std::unique_ptr<char[]>> static_memory;
    std::vector<SharedArray> arrays;
    char message[512];
    bool failed = false;
};

inline thread_local Machine machine;
inline thread_local Thread* self = nullptr;

[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail(const char* format, ...) {
    auto& m = machine;
    int n = snprintf(m.message, sizeof m.message, "block (%u, %u, %u), thread %u: ", m.block_index.x, m.block_index.y,
                     m.block_index.z, self->index.x);
    va_list list;
    va_start(list, format);
    vsnprintf(m.message + n, sizeof m.message - n, format, list);
    va_end(list);
    m.failed = true;
    _longjmp(m.scheduler, 1);
}

// ---- turns ----------------------------------------------------------------------------------------------------------

inline void pause(State state, const char* operation) {
    self->state = state;
    self->operation = operation;
    if (!_setjmp(self->at)) _longjmp(machine.scheduler, 1);
}

inline void fiber() {
    for (;;) {
        machine.body();
        if (!self->copies.empty()) fail("ended with asynchronous copies that nobody waited for");
        pause(State::ended, "the end");
    }
}

// Lets a thread run until it waits or ends. Not inlined: setjmp returns twice.
__attribute__((noinline)) inline void resume(Thread* thread) {
    self = thread;
    if (_setjmp(machine.scheduler)) return;
    if (thread->started) _longjmp(thread->at, 1);
    thread->started = true;
    setcontext(&thread->start);
}

inline const char* describe(const Thread& t) { return t.state == State::ready ? "running" : t.operation; }

// Releases those of `count` threads from `first` that all wait in the same operation. False when they never will.
inline bool release(unsigned first, unsigned count, State state) {
    auto& threads = machine.threads;
    for (unsigned i = first; i < first + count; i++) {
        if (threads[i].state != state || threads[i].operation != threads[first].operation) return false;
    }
    for (unsigned i = first; i < first + count; i++) threads[i].state = State::ready;
    return true;
}

// Threads of the warp that begins at `first`.
inline unsigned lanes_from(unsigned first) {
    const unsigned left = unsigned(machine.threads.size()) - first;
    return left < WARP ? left : WARP;
}

// Runs a warp as far as it gets alone: to a barrier of the block or to its end. Warps that ran in step would hide that a
// barrier between them is missing. False after a fault.
inline bool run_warp(unsigned first, unsigned lanes) {
    auto& m = machine;
    do {
        for (unsigned i : m.lane_order) {
            if (i < lanes && m.threads[first + i].state == State::ready) resume(&m.threads[first + i]);
            if (m.failed) return false;
        }
    } while (release(first, lanes, State::in_warp));
    return true;
}

inline bool run_block() {
    auto& m = machine;
    const unsigned count = unsigned(m.threads.size());
    for (;;) {
        bool all_ended = true;
        for (unsigned warp : m.warp_order) {
            if (!run_warp(warp * WARP, lanes_from(warp * WARP))) return false;
        }
        for (auto& t : m.threads) all_ended &= t.state == State::ended;
        if (all_ended) return true;
        if (release(0, count, State::in_block)) continue;
        // Nobody can go on: name a thread that waits and one that is elsewhere.
        unsigned a = 0, b = 0;
        while (m.threads[a].state == State::ended) a++;
        bool warp = m.threads[a].state == State::in_warp;
        unsigned first = warp ? a / WARP * WARP : 0;
        unsigned end = warp && first + WARP < count ? first + WARP : count;
        for (b = first; b + 1 < end && m.threads[b].operation == m.threads[a].operation;) b++;
        snprintf(m.message, sizeof m.message, "block (%u, %u, %u): thread %u waits at %s, thread %u is at %s", m.block_index.x,
                 m.block_index.y, m.block_index.z, a, describe(m.threads[a]), b, describe(m.threads[b]));
        m.failed = true;
        return false;
    }
}

inline bool guards_hold() {
    auto& m = machine;
    auto intact = [](const char* start) {
        for (size_t i = 0; i < GUARD; i++) {
            if ((unsigned char)start[i] != GUARD_BYTE) return false;
        }
        return true;
    };
    bool held = intact(m.dynamic_shared.data()) && intact(m.dynamic_shared.data() + m.dynamic_shared.size() - GUARD);
    for (auto& a : m.arrays) held &= intact(a.start - GUARD) && intact(a.start + a.bytes);
    if (!held) {
        snprintf(m.message, sizeof m.message, "block (%u, %u, %u): shared memory was written outside its arrays",
                 m.block_index.x, m.block_index.y, m.block_index.z);
    }
    return held;
}

inline std::vector<unsigned> make_order(unsigned count, unsigned kind) {
    std::vector<unsigned> order(count);
    for (unsigned i = 0; i < count; i++) order[i] = kind == 1 ? count - 1 - i : i;
    uint32_t seed = kind;
    for (unsigned i = count; kind > 1 && i > 1; i--) {
        seed = seed * 1664525u + 1013904223u;
        std::swap(order[i - 1], order[(seed >> 8) % i]);
    }
    return order;
}

inline int run(const Launch& launch, char* message, size_t message_bytes, std::function<void()> body) {
    auto& m = machine;
    m.launch = &launch;
    m.failed = false;
    m.message[0] = 0;
    m.body = std::move(body);
    m.grid = {launch.grid[0], launch.grid[1], launch.grid[2]};
    m.block = {launch.block, 1, 1};
    m.threads.clear();
    m.threads.resize(launch.block);
    while (m.stacks.size() < launch.block) m.stacks.emplace_back(new char[STACK]);
    m.warp_order = make_order((launch.block + WARP - 1) / WARP, launch.order);
    m.lane_order = make_order(WARP, launch.order);
    for (unsigned i = 0; i < launch.block; i++) {
        auto& t = m.threads[i];
        getcontext(&t.start);
        t.start.uc_stack.ss_sp = m.stacks[i].get();
        t.start.uc_stack.ss_size = STACK;
        t.start.uc_link = nullptr;
        makecontext(&t.start, fiber, 0);
    }
    bool good = true;
    for (unsigned z = 0; good && z < m.grid.z; z++)
        for (unsigned y = 0; good && y < m.grid.y; y++)
            for (unsigned x = 0; good && x < m.grid.x; x++) {
                m.block_index = {x, y, z};
                m.arrays.clear();
                m.static_memory.clear();
                m.dynamic_shared.assign(launch.shared_bytes + 2 * GUARD, (char)GUARD_BYTE);
                memset(m.dynamic_shared.data() + GUARD, POISON, launch.shared_bytes);
                for (unsigned i = 0; i < launch.block; i++) {
                    auto& t = m.threads[i];
                    t.state = State::ready;
                    t.index = {i, 0, 0};
                    t.turn = t.group = 0;
                }
                good = run_block() && guards_hold();
            }
    snprintf(message, message_bytes, "%s", m.message);
    m.threads.clear();
    return good ? 0 : 1;
}

template <class... A, size_t... I>
int call(void (*kernel)(A...), const Launch& launch, void** arguments, char* message, size_t bytes,
         std::index_sequence<I...>) {
    const uint32_t sizes[] = {uint32_t(sizeof(A))...};
    if (launch.argument_sizes &&
        (launch.argument_count != sizeof...(A) || memcmp(sizes, launch.argument_sizes, sizeof sizes) != 0)) {
        snprintf(message, bytes, "%zu arguments that are not the %zu parameters of the kernel", launch.argument_count,
                 sizeof...(A));
        return 1;
    }
    return run(launch, message, bytes, [=] { kernel(*static_cast<A*>(arguments[I])...); });
}

// ---- memory ---------------------------------------------------------------------------------------------------------

inline void check_global(const void* at, size_t bytes, bool write) {
    auto start = reinterpret_cast<uintptr_t>(at);
    if (start % bytes != 0) fail("%zu bytes of global memory at an address that is no multiple of it", bytes);
    const Launch& l = *machine.launch;
    for (size_t i = 0; i < l.buffer_count; i++) {
        auto begin = reinterpret_cast<uintptr_t>(l.buffers[i].start);
        if (start < begin || start + bytes > begin + l.buffers[i].bytes) continue;
        if (write && !l.buffers[i].writable) fail("writes the input in argument buffer %zu", i);
        return;
    }
    fail("%s %zu bytes outside of every buffer", write ? "writes" : "reads", bytes);
}

inline char* dynamic_shared() { return machine.dynamic_shared.data() + GUARD; }

inline void check_shared(const void* at, size_t bytes) {
    auto p = static_cast<const char*>(at);
    if (reinterpret_cast<uintptr_t>(p) % bytes != 0) fail("%zu bytes of shared memory at an unaligned address", bytes);
    auto inside = [&](const char* start, size_t len) { return p >= start && p + bytes <= start + len; };
    if (inside(dynamic_shared(), machine.launch->shared_bytes)) return;
    for (auto& a : machine.arrays) {
        if (inside(a.start, a.bytes)) return;
    }
    fail("%zu bytes outside of shared memory", bytes);
}

// The same memory for every thread of a block that comes by the same place.
inline char* shared_array(const void* tag, size_t bytes) {
    auto& m = machine;
    for (auto& a : m.arrays) {
        if (a.tag == tag) return a.start;
    }
    m.static_memory.emplace_back(new char[bytes + 2 * GUARD + 16]);
    char* memory = m.static_memory.back().get();
    char* start = memory + GUARD;
    start += (16 - reinterpret_cast<uintptr_t>(start) % 16) % 16;
    memset(start - GUARD, GUARD_BYTE, bytes + 2 * GUARD);
    memset(start, POISON, bytes);
    m.arrays.push_back({tag, start, bytes});
    return start;
}

// ---- warps ----------------------------------------------------------------------------------------------------------

inline unsigned lane() { return self->index.x % WARP; }

// Shows `mine` to the warp and waits until every lane did. Gives the slots' turn.
template <class T>
unsigned show(const T& mine, const char* operation) {
    static_assert(sizeof(T) <= sizeof(Slot));
    unsigned turn = self->turn++ % 2;
    memcpy(self->slots[turn].bytes, &mine, sizeof mine);
    pause(State::in_warp, operation);
    return turn;
}

// What `lane` of the own warp showed.
template <class T>
T shown(unsigned turn, unsigned lane) {
    T value;
    memcpy(&value, machine.threads[self->index.x / WARP * WARP + lane].slots[turn].bytes, sizeof value);
    return value;
}

template <class T>
T shuffle(unsigned mask, T value, unsigned from, const char* operation) {
    if (mask != 0xffffffffu) fail("a shuffle of part of a warp");
    return shown<T>(show(value, operation), from < WARP ? from : lane());
}

inline void wait_for_copies(unsigned still_flying) {
    auto& copies = self->copies;
    size_t kept = 0;
    for (auto& c : copies) {
        if (c.group + still_flying < self->group) {
            if (c.from) {
                memcpy(c.to, c.from, 16);
            } else {
                memset(c.to, 0, 16);
            }
        } else {
            copies[kept++] = c;
        }
    }
    copies.resize(kept);
}

inline void copy_async(void* to, const void* from, bool valid) {
    check_shared(to, 16);
    if (valid) check_global(from, 16, false);
    Copy copy = {static_cast<char*>(to), valid ? static_cast<const char*>(from) : nullptr, self->group};
    if (machine.launch->order % 2 == 1) {
        // Early, and once more when waited for, as a copy may take its time.
        valid ? memcpy(copy.to, copy.from, 16) : memset(copy.to, 0, 16);
    }
    self->copies.push_back(copy);
}

}  // namespace cuda_cpu

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define threadIdx (cuda_cpu::self->index)
#define blockIdx (cuda_cpu::machine.block_index)
#define blockDim (cuda_cpu::machine.block)
#define gridDim (cuda_cpu::machine.grid)
#define CUDA_CPU_TEXT(x) #x
#define CUDA_CPU_LINE(x) CUDA_CPU_TEXT(x)
#define __syncthreads() cuda_cpu::pause(cuda_cpu::State::in_block, "__syncthreads of line " CUDA_CPU_LINE(__LINE__))
#define __syncwarp() cuda_cpu::pause(cuda_cpu::State::in_warp, "__syncwarp of line " CUDA_CPU_LINE(__LINE__))
#define __shfl_sync(mask, value, from) cuda_cpu::shuffle(mask, value, from, "__shfl_sync")
#define __shfl_xor_sync(mask, value, bits) cuda_cpu::shuffle(mask, value, cuda_cpu::lane() ^ (bits), "__shfl_xor_sync")
#define __shfl_down_sync(mask, value, by) cuda_cpu::shuffle(mask, value, cuda_cpu::lane() + (by), "__shfl_down_sync")

#define SHARED_ARRAY(T, name, count)          \
    static const char name##_tag = 0;         \
    T* name = reinterpret_cast<T*>(cuda_cpu::shared_array(&name##_tag, sizeof(T) * (count)))
#define DYNAMIC_SHARED(name) unsigned char* name = reinterpret_cast<unsigned char*>(cuda_cpu::dynamic_shared())
#define CHECK_READ(at, bytes) cuda_cpu::check_global(at, bytes, false)
#define CHECK_WRITE(at, bytes) cuda_cpu::check_global(at, bytes, true)

// An entry point for every kernel, which the tests find by its name.
#define KERNEL_ENTRY(name)                                                                                            \
    extern "C" int name##_on_cpu(const cuda_cpu::Launch* launch, void** arguments, char* message, size_t bytes) {     \
        return cuda_cpu::launch(name, *launch, arguments, message, bytes);                                            \
    }

namespace cuda_cpu {
template <class... A>
int launch(void (*kernel)(A...), const Launch& launch, void** arguments, char* message, size_t bytes) {
    return call(kernel, launch, arguments, message, bytes, std::index_sequence_for<A...>{});
}
}  // namespace cuda_cpu

// ---- numbers --------------------------------------------------------------------------------------------------------

struct __half {
    uint16_t bits;
};

struct __nv_bfloat16 {
    uint16_t bits;
};

inline uint32_t cuda_cpu_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

inline float cuda_cpu_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

inline float __bfloat162float(__nv_bfloat16 x) { return cuda_cpu_float(uint32_t(x.bits) << 16); }

// To the nearest, ties to even.
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    uint32_t bits = cuda_cpu_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {uint16_t(0x7fff)};
    return {uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

inline float __half2float(__half x) {
    uint32_t sign = uint32_t(x.bits & 0x8000u) << 16, exponent = (x.bits >> 10) & 31u, fraction = x.bits & 0x3ffu;
    if (exponent == 0) {
        float tiny = float(fraction) * cuda_cpu_float((127u - 24u) << 23);
        return cuda_cpu_float(sign | cuda_cpu_bits(tiny));
    }
    if (exponent == 31) return cuda_cpu_float(sign | 0x7f800000u | fraction << 13);
    return cuda_cpu_float(sign | (exponent + 112u) << 23 | fraction << 13);
}

// To the nearest, ties to even.
inline __half __float2half_rn(float x) {
    uint32_t bits = cuda_cpu_bits(x), sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return {uint16_t(0x7fff)};
    // From 65520 on everything rounds to infinity.
    if (size >= 0x477ff000u) return {uint16_t(sign | 0x7c00u)};
    if (size < 0x38800000u) {
        // Below the normal halves steps are 2^-24: adding 0.5, whose steps are 2^-24 as well, rounds as the hardware does.
        float shifted = cuda_cpu_float(size) + 0.5f;
        return {uint16_t(sign | (cuda_cpu_bits(shifted) - cuda_cpu_bits(0.5f)))};
    }
    uint32_t rounded = size + 0xfffu + ((size >> 13) & 1u);
    return {uint16_t(sign | ((rounded - (112u << 23)) >> 13))};
}

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __fmul_rn(float a, float b) { return a * b; }
