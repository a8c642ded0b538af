__device__ f16 to_f16(float x) {
#ifdef EGRAFT_SHIM
  return (f16)encoded<16, 10, 15, 0>(x);
#else
  f16 y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
#endif
}
