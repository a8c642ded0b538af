__device__ float from_f16(f16 x) {
#ifdef EGRAFT_SHIM
  return decoded<16, 10, 15, 0>(x);
#else
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
  return y;
#endif
}
