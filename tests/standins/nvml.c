/* libnvidia-ml.so.1 as the public header nvml.h (API 13) describes it, played by sensor_model.h. */
#include "sensor_model.h"

#include <stddef.h>

enum { OK = 0, UNINITIALIZED = 1, BAD_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, BAD_VERSION = 25 };

static int initialised;

typedef struct { unsigned field_id, scope_id; long long timestamp, latency_us; unsigned type; int status;
                 union { double d; unsigned ui; unsigned long long ull; } value; } field_value;
typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned version; int sensor, temperature; } temperature_v1;
typedef struct { unsigned gpu, memory; } utilisation;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_v3;
typedef struct { char legacy[16]; unsigned domain, bus, device, device_id, subsystem; char bus_id[32]; } pci_v3;

_Static_assert(sizeof(field_value) == 40 && offsetof(field_value, value) == 32, "nvmlFieldValue_t");
_Static_assert(sizeof(memory_v2) == 40 && sizeof(process_v3) == 24, "nvml.h sizes");

#define CHECK(function)                                                            \
    device_t *d = handle;                                                          \
    call_count++;                                                                  \
    if (!initialised) return UNINITIALIZED;                                        \
    if (d < devices || d >= devices + device_count) return BAD_ARGUMENT;           \
    { int failed = status_of(d, function); if (failed) return failed; }

EXPORT int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int failed = initialised ? OK : read_description(9 /* DRIVER_NOT_LOADED */);
    if (!failed) initialised++; /* NVML counts its users */
    return failed;
}
EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
EXPORT int nvmlShutdown(void) {
    if (!initialised) return UNINITIALIZED;
    initialised--;
    return OK;
}

EXPORT const char *nvmlErrorString(int code) {
    switch (code) {
    case 0: return "Success";
    case 1: return "Uninitialized";
    case 3: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case 9: return "Driver Not Loaded";
    case 13: return "Function Not Found";
    case 15: return "GPU is lost";
    case 16: return "GPU requires reset";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "%s", driver_version); return OK; }
EXPORT int nvmlSystemGetNVMLVersion(char *text, unsigned size) { snprintf(text, size, "13.%s", driver_version); return OK; }
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return OK; }
EXPORT int nvmlSystemGetCudaDriverVersion(int *version) { *version = 13000; return OK; }
EXPORT int nvmlDeviceGetCount_v2(unsigned *count) {
    if (!initialised) return UNINITIALIZED;
    *count = device_count;
    return OK;
}
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (!initialised) return UNINITIALIZED;
    if (index >= (unsigned)device_count) return BAD_ARGUMENT;
    *handle = &devices[index];
    return status_of(&devices[index], "nvmlDeviceGetHandleByIndex_v2");
}
EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    for (int i = 0; i < device_count; i++)
        if (!strcmp(devices[i].uuid, uuid)) { *handle = &devices[i]; return OK; }
    return NOT_FOUND;
}
EXPORT int nvmlDeviceGetIndex(void *handle, unsigned *index) { CHECK("nvmlDeviceGetIndex") *index = d - devices; return OK; }
EXPORT int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    CHECK("nvmlDeviceGetName")
    snprintf(text, size, "%s", d->device_name);
    return OK;
}
EXPORT int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    CHECK("nvmlDeviceGetUUID")
    snprintf(text, size, "%s", d->uuid);
    return OK;
}
EXPORT int nvmlDeviceGetPciInfo_v3(void *handle, pci_v3 *pci) {
    CHECK("nvmlDeviceGetPciInfo_v3")
    memset(pci, 0, sizeof *pci);
    pci->bus = 1 + (unsigned)(d - devices);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus);
    snprintf(pci->legacy, sizeof pci->legacy, "0000:%02X:00.0", pci->bus);
    return OK;
}
EXPORT int nvmlDeviceGetArchitecture(void *handle, unsigned *architecture) {
    CHECK("nvmlDeviceGetArchitecture")
    *architecture = d->architecture;
    return OK;
}
EXPORT int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    CHECK("nvmlDeviceGetCudaComputeCapability")
    *major = d->architecture;
    *minor = 0;
    return OK;
}
EXPORT int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    CHECK("nvmlDeviceGetMigMode")
    if (d->mig < 0) return NOT_SUPPORTED;
    *current = *pending = d->mig;
    return OK;
}

/* ---- power and energy ---- */

static unsigned milli(double value) { return (unsigned)llround(value * 1000); }

EXPORT int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    CHECK("nvmlDeviceGetPowerUsage")
    /* GA100 and everything before Ampere show the short window, the others one second (nvml.h). */
    double window = d->architecture < 7 || strstr(d->device_name, "A100") ? d->power_window_s : d->average_window_s;
    *milliwatts = milli(seen_power(d, now_s(), window));
    return OK;
}
EXPORT int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *millijoules) {
    CHECK("nvmlDeviceGetTotalEnergyConsumption")
    *millijoules = (unsigned long long)(seen_counter(d, now_s()) * 1000 + 1e-6);
    return OK;
}
EXPORT int nvmlDeviceGetFieldValues(void *handle, int count, field_value *values) {
    CHECK("nvmlDeviceGetFieldValues")
    double t = now_s();
    int any = 0;
    for (int i = 0; i < count; i++) {
        field_value *v = &values[i];
        char name[32];
        v->value.ull = 0; v->type = 1; v->latency_us = 1;
        v->timestamp = (long long)(t * 1e6);
        v->status = OK;
        if (d->status_count) {
            snprintf(name, sizeof name, "field:%u:%u", v->field_id, v->scope_id);
            v->status = status_of(d, name);
            if (!v->status) { snprintf(name, sizeof name, "field:%u", v->field_id); v->status = status_of(d, name); }
        }
        if (v->status) continue;
        switch (v->field_id) {
        case 185: v->value.ui = milli(seen_power(d, t, d->average_window_s)); break;
        case 186: v->value.ui = milli(seen_power(d, t, d->power_window_s)); break;
        case 83: v->type = 3; v->value.ull = (unsigned long long)(seen_counter(d, t) * 1000 + 1e-6); break;
        case 82: v->value.ui = (unsigned)d->memory_temperature_c; break;
        case 192: v->value.ui = milli(d->limit_w); break;
        default: v->status = NOT_SUPPORTED; continue;
        }
        any = 1;
    }
    return any || !count ? OK : values[0].status;
}
EXPORT int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatts) {
    CHECK("nvmlDeviceGetEnforcedPowerLimit")
    *milliwatts = milli(d->limit_w);
    return OK;
}
EXPORT int nvmlDeviceGetPowerManagementLimit(void *handle, unsigned *milliwatts) {
    CHECK("nvmlDeviceGetPowerManagementLimit")
    *milliwatts = milli(d->limit_w);
    return OK;
}
EXPORT int nvmlDeviceGetPowerManagementDefaultLimit(void *handle, unsigned *milliwatts) {
    return nvmlDeviceGetPowerManagementLimit(handle, milliwatts);
}
EXPORT int nvmlDeviceGetPowerManagementLimitConstraints(void *handle, unsigned *low, unsigned *high) {
    CHECK("nvmlDeviceGetPowerManagementLimitConstraints")
    *low = 100000;
    *high = milli(d->limit_w);
    return OK;
}

/* ---- everything else ---- */

EXPORT int nvmlDeviceGetMemoryInfo(void *handle, memory_v1 *memory) {
    CHECK("nvmlDeviceGetMemoryInfo")
    memory->total = (unsigned long long)(d->memory_total_mib * 1048576);
    memory->used = (unsigned long long)((d->memory_used_mib + 400) * 1048576); /* v1 counts the reserved part as used */
    memory->free = memory->total - memory->used;
    return OK;
}
EXPORT int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_v2 *memory) {
    CHECK("nvmlDeviceGetMemoryInfo_v2")
    if (memory->version != 0x02000028) return BAD_VERSION;
    memory->total = (unsigned long long)(d->memory_total_mib * 1048576);
    memory->used = (unsigned long long)(d->memory_used_mib * 1048576);
    memory->reserved = 400ULL << 20;
    memory->free = memory->total - memory->used - memory->reserved;
    return OK;
}
EXPORT int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *degrees) {
    CHECK("nvmlDeviceGetTemperature")
    (void)sensor;
    *degrees = (unsigned)d->temperature_c;
    return OK;
}
EXPORT int nvmlDeviceGetTemperatureV(void *handle, temperature_v1 *value) {
    CHECK("nvmlDeviceGetTemperatureV")
    if (value->version != 0x0100000c) return BAD_VERSION;
    value->temperature = (int)d->temperature_c;
    return OK;
}
EXPORT int nvmlDeviceGetUtilizationRates(void *handle, utilisation *value) {
    CHECK("nvmlDeviceGetUtilizationRates")
    if (d->mig > 0) return NOT_SUPPORTED;
    value->gpu = (unsigned)d->utilisation;
    value->memory = (unsigned)(d->utilisation / 2);
    return OK;
}
EXPORT int nvmlDeviceGetClockInfo(void *handle, int type, unsigned *mhz) {
    CHECK("nvmlDeviceGetClockInfo")
    *mhz = type == 2 ? 2619 : (unsigned)d->sm_clock_mhz;
    return OK;
}
EXPORT int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *reasons) {
    CHECK("nvmlDeviceGetCurrentClocksEventReasons")
    *reasons = d->throttle;
    return OK;
}
EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons) {
    CHECK("nvmlDeviceGetCurrentClocksThrottleReasons")
    *reasons = d->throttle;
    return OK;
}
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, process_v3 *list) {
    CHECK("nvmlDeviceGetComputeRunningProcesses_v3")
    unsigned have = d->pid ? 1 : 0, room = *count;
    *count = have;
    if (have > room || (have && !list)) return TOO_SMALL;
    if (have) list[0] = (process_v3){(unsigned)d->pid, (unsigned long long)d->process_mib << 20, ~0u, ~0u};
    return OK;
}
