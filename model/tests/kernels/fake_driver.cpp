// Stands in for CUDA's driver where there is none: a library with those of its functions that card.rs calls. The memory of its
// device is the host's; its kernels are libraries that emulator.rs built, named by the variable FAKE_DRIVER_KERNELS.
#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "cuda_cpu.h"

namespace {

// From cuda.h.
enum Status {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    INVALID_IMAGE = 200,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
    LAUNCH_FAILED = 719,
};
enum Attribute { CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76 };

// The first word of every fatbin.
constexpr uint32_t FATBIN = 0xba55ed50;
// As what cuMemAlloc gives.
constexpr size_t ALIGNMENT = 256;

using Address = uint64_t;
using Kernel = int (*)(const cuda_cpu::Launch*, void**, char*, size_t);

std::mutex mutex;
std::map<Address, size_t> allocations;
// Of a kernel. Every function fails with it from then on.
Status fault = SUCCESS;
thread_local void* current = nullptr;
char context;

// Whether all of it is in one allocation.
bool allocated(Address start, size_t bytes) {
    auto after = allocations.upper_bound(start);
    if (after == allocations.begin()) return false;
    auto [begin, size] = *std::prev(after);
    return start + bytes <= begin + size;
}

Status copy(void* to, const void* from, Address on_device, size_t bytes) {
    std::lock_guard lock(mutex);
    if (fault) return fault;
    if (!current) return INVALID_CONTEXT;
    if (!allocated(on_device, bytes)) return INVALID_VALUE;
    memcpy(to, from, bytes);
    return SUCCESS;
}

}  // namespace

extern "C" {

Status cuInit(unsigned) { return SUCCESS; }

Status cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

Status cuDeviceGetAttribute(int* value, int attribute, int) {
    *value = attribute == CAPABILITY_MAJOR ? 9 : 0;
    return SUCCESS;
}

Status cuDevicePrimaryCtxRetain(void** retained, int) {
    *retained = &context;
    return SUCCESS;
}

Status cuCtxGetCurrent(void** value) {
    *value = current;
    return SUCCESS;
}

Status cuCtxSetCurrent(void* value) {
    current = value;
    return SUCCESS;
}

Status cuCtxSynchronize() {
    std::lock_guard lock(mutex);
    return fault;
}

Status cuMemAlloc_v2(Address* address, size_t bytes) {
    std::lock_guard lock(mutex);
    if (fault) return fault;
    if (bytes == 0) return INVALID_VALUE;
    void* memory = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    *address = reinterpret_cast<Address>(memory);
    allocations[*address] = bytes;
    return SUCCESS;
}

Status cuMemFree_v2(Address address) {
    std::lock_guard lock(mutex);
    if (!allocations.erase(address)) return INVALID_VALUE;
    free(reinterpret_cast<void*>(address));
    return fault;
}

Status cuMemcpyHtoD_v2(Address to, const void* from, size_t bytes) {
    return copy(reinterpret_cast<void*>(to), from, to, bytes);
}

Status cuMemcpyDtoH_v2(void* to, Address from, size_t bytes) {
    return copy(to, reinterpret_cast<const void*>(from), from, bytes);
}

Status cuModuleLoadData(void** module, const void* image) {
    uint32_t word;
    memcpy(&word, image, sizeof word);
    if (word != FATBIN) return INVALID_IMAGE;
    // All modules are one: kernels have different names in all of them.
    *module = &context;
    return SUCCESS;
}

Status cuModuleUnload(void*) { return SUCCESS; }

Status cuModuleGetFunction(void** function, void*, const char* name) {
    const std::string entry = std::string(name) + "_on_cpu", list = getenv("FAKE_DRIVER_KERNELS");
    for (size_t start = 0, end; start < list.size(); start = end + 1) {
        end = std::min(list.find(':', start), list.size());
        void* library = dlopen(list.substr(start, end - start).c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library && (*function = dlsym(library, entry.c_str()))) return SUCCESS;
    }
    return NOT_FOUND;
}

// Runs the kernel at once, and as the driver does it reports what went wrong only to those who wait for it.
Status cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned,
                      unsigned shared_bytes, void*, void** parameters, void**) {
    std::lock_guard lock(mutex);
    if (fault) return fault;
    if (x == 0 || threads == 0 || threads > 1024 || shared_bytes > 48 << 10) return INVALID_VALUE;
    std::vector<cuda_cpu::Buffer> buffers;
    for (auto [address, bytes] : allocations) buffers.push_back({reinterpret_cast<char*>(address), bytes, 1});
    cuda_cpu::Launch launch = {{x, y, z}, threads, shared_bytes, 0, buffers.data(), buffers.size(), nullptr, 0};
    char message[512] = "";
    if (reinterpret_cast<Kernel>(function)(&launch, parameters, message, sizeof message)) {
        fprintf(stderr, "fake driver: %s\n", message);
        fault = LAUNCH_FAILED;
    }
    return SUCCESS;
}

Status cuGetErrorString(int status, const char** text) {
    *text = status == LAUNCH_FAILED ? "the kernel failed" : "see cuda.h";
    return SUCCESS;
}

}  // extern "C"
