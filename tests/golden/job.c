/* The job of the golden checkpoints: 148 KiB of memory that changes with every step, and tells of itself.
 *
 *     job FILE
 *
 * It needs no library and of the CPU only what every x86-64 has, so that it goes on wherever crikpy does. At each step
 * it mixes 64 words of its memory, of .data, .bss, the heap and the stack, by whole numbers and by SSE2's; every 256th
 * step adds a letter to FILE. SIGUSR1 has it print `proved STEPS HASH`, the hash over all of its memory; SIGUSR2 has it
 * end with 0. tests/golden/job.py computes the same from STEPS alone.
 *
 *     gcc -O1 -static -nostdlib -ffreestanding -fno-stack-protector -fno-pic -no-pie -s -Wl,--build-id job.c -o job
 */

typedef unsigned long u64;

enum { PARTS = 4, WORDS = 6144, DATA_WORDS = 512, MIXED = 64, LETTER_STEPS = 256, PAUSE_NS = 20000000 };
enum { SYS_write = 1, SYS_open = 2, SYS_mmap = 9, SYS_rt_sigaction = 13, SYS_rt_sigreturn = 15, SYS_nanosleep = 35,
       SYS_exit = 60 };
enum { SIGUSR1 = 10, SIGUSR2 = 12, SA_RESTORER = 0x04000000, O_WRONLY_CREAT_APPEND = 02101 };

static u64 data[DATA_WORDS] = {1}; /* not all zeros, so that it lies in .data */
static u64 bss[WORDS];
static volatile int asked, finished;
static const u64 sizes[PARTS] = {DATA_WORDS, WORDS, WORDS, WORDS};

static long call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long answer;
    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return answer;
}

static void fail(void) { call(SYS_exit, 1, 0, 0, 0, 0, 0); }

static void hear(int number) {
    if (number == SIGUSR1)
        asked = 1;
    else
        finished = 1;
}

__asm__(".globl back\nback:\n\tmov $15, %eax\n\tsyscall\n");
void back(void);

static void listen_to(int number) {
    struct {
        void (*handler)(int);
        u64 flags;
        void (*restorer)(void);
        u64 mask;
    } action = {hear, SA_RESTORER, back, 0};
    if (call(SYS_rt_sigaction, number, (long)&action, 0, 8, 0, 0) < 0) fail();
}

static char *put(char *end, u64 value, int base) {
    char digits[20];
    int count = 0;
    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (count) *end++ = digits[--count];
    return end;
}

static u64 hash_of(u64 *const parts[PARTS]) {
    u64 hash = 0xcbf29ce484222325;
    for (int part = 0; part < PARTS; part++)
        for (u64 word = 0; word < sizes[part]; word++) hash = (hash ^ parts[part][word]) * 0x100000001b3;
    return hash;
}

static void prove(u64 steps, u64 *const parts[PARTS]) {
    static const char word[] = "proved ";
    char line[64], *end = line;
    for (const char *from = word; *from; from++) *end++ = *from;
    end = put(end, steps, 10);
    *end++ = ' ';
    end = put(end, hash_of(parts), 16);
    *end++ = '\n';
    if (call(SYS_write, 1, (long)line, end - line, 0, 0, 0) != end - line) fail();
}

/* step: the sums live in SSE registers, the position in whole ones, whenever it is interrupted. */
static void step(u64 steps, u64 *const parts[PARTS]) {
    u64 *memory = parts[steps % PARTS], size = sizes[steps % PARTS];
    u64 at = steps * 2654435761u;
    double sum = (double)(long)(steps % 1000003);
    for (int count = 0; count < MIXED; count++) {
        at = at * 6364136223846793005u + 1442695040888963407u;
        sum = sum * 0.5 + (double)(long)(at >> 40);
        memory[(at >> 33) % size] += at ^ (u64)(long)sum;
    }
}

static void work(int file) {
    u64 stack[WORDS];
    u64 *heap = (u64 *)call(SYS_mmap, 0, WORDS * sizeof(u64), 3, 0x22, -1, 0);
    u64 *const parts[PARTS] = {data, bss, heap, stack};
    struct {
        long seconds, nanoseconds;
    } pause = {0, PAUSE_NS};
    if ((u64)heap > -4096ul) fail();
    for (int word = 0; word < WORDS; word++) ((volatile u64 *)stack)[word] = 0;
    for (u64 steps = 0; !finished; steps++) {
        if (asked) {
            asked = 0;
            prove(steps, parts);
        }
        if (steps % LETTER_STEPS == 0) {
            char letter = (char)('a' + steps / LETTER_STEPS % 26);
            if (call(SYS_write, file, (long)&letter, 1, 0, 0, 0) != 1) fail();
        }
        step(steps, parts);
        if (steps % 16 == 0) call(SYS_nanosleep, (long)&pause, 0, 0, 0, 0, 0);
    }
}

__attribute__((used)) static void start(long *arguments) {
    long file = arguments[0] == 2 ? call(SYS_open, arguments[2], O_WRONLY_CREAT_APPEND, 0600, 0, 0, 0) : -1;
    if (file < 0) fail();
    listen_to(SIGUSR1);
    listen_to(SIGUSR2);
    call(SYS_write, 1, (long)"ready\n", 6, 0, 0, 0);
    work((int)file);
    call(SYS_exit, 0, 0, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start\n");
