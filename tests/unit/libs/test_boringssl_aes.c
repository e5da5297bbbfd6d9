// AES-GCM runs on the processor's AES instructions: the call is single-stepped (the trap flag), and
// the instruction under each step is looked at. BoringSSL's own hook for this exists only in
// builds for its own tests.
#include "test.h"
#include <openssl/aead.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <signal.h>
#include <ucontext.h>

static volatile sig_atomic_t aes_steps, steps;

// AESENC is 66 0F 38 DC; with VEX C4 E2.. xx DC; with EVEX 62 F2.. xx xx DC.
static bool is_aesenc(const unsigned char *at)
{
    if (at[0] == 0x66) {
        at++;
        if ((at[0] & 0xf0) == 0x40) // REX
            at++;
        return at[0] == 0x0f && at[1] == 0x38 && at[2] == 0xdc;
    }
    if (at[0] == 0xc4)
        return (at[1] & 0x1f) == 2 && at[3] == 0xdc;
    return at[0] == 0x62 && (at[1] & 7) == 2 && at[4] == 0xdc;
}

static void on_step(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    const ucontext_t *uc = context;
    steps++;
    aes_steps += is_aesenc((const unsigned char *)(uintptr_t)uc->uc_mcontext.gregs[REG_RIP]);
}

// 128 bytes below the stack pointer belong to the compiler.
#define SET_FLAGS(change)                                                  \
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; " change "; popfq; " \
                     "lea 128(%%rsp), %%rsp" ::                            \
                         : "memory", "cc")

static void single_step(bool on)
{
    if (on)
        SET_FLAGS("orq $0x100, (%%rsp)");
    else
        SET_FLAGS("andq $~0x100, (%%rsp)");
}

TEST(boringssl_seals_with_aes_instructions)
{
    unsigned a, b, c = 0, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_AES)) {
        EXPECT(!EVP_has_aes_hardware());
        return;
    }
    static const uint8_t key[16], nonce[12], plain[512];
    uint8_t sealed[sizeof(plain) + EVP_AEAD_MAX_OVERHEAD];
    size_t len = 0;
    EVP_AEAD_CTX *aead =
        EVP_AEAD_CTX_new(EVP_aead_aes_128_gcm(), key, sizeof(key), EVP_AEAD_DEFAULT_TAG_LENGTH);
    REQUIRE(aead);
    struct sigaction before, trap = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    REQUIRE(sigaction(SIGTRAP, &trap, &before) == 0);
    aes_steps = steps = 0;
    single_step(true);
    int ok = EVP_AEAD_CTX_seal(aead, sealed, &len, sizeof(sealed), nonce, sizeof(nonce), plain,
                               sizeof(plain), NULL, 0);
    single_step(false);
    EXPECT_EQ(sigaction(SIGTRAP, &before, NULL), 0);
    EXPECT(ok);
    EXPECT_EQ(len, sizeof(plain) + 16);
    EXPECT(EVP_has_aes_hardware());
    EXPECT(steps > 100); // the stepping itself worked
    // 32 blocks of 10 rounds, at most four blocks an instruction.
    EXPECT(aes_steps >= 32 * 9 / 4);
    EVP_AEAD_CTX_free(aead);
}
#endif
