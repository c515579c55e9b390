//! The guest's program: fills memory, then dirties pages at a pace. It fits the first sector of a disk.
//!
//! ```text
//!   0x1000  page tables: 512 GiB, one to one, in pages of 1 GiB     0x7c00  this program
//!   0x5000  interrupt table: one entry, the timer                  0x7e00  parameters (second sector)
//!   0x6000  status: what the harness reads                         2 MiB   memory to fill begins
//! ```
//!
//! Pacing is by the time stamp counter, in an open loop: at each timer tick all pages that are due by then are written, and
//! a page that came late makes none of the later ones late. As in lgr's own guest, a debt of more than a tenth
//! of a second is forgiven, and between ticks (0.5 ms) the processor sleeps.

use super::assembler::{Assembler, Field, Mode, Program};

/// Where the BIOS puts the first sector.
pub(crate) const ORIGIN: usize = 0x7C00;

/// Assembles it.
pub(crate) fn assemble() -> Program {
    let mut code = Assembler::new(ORIGIN);
    load_parameters(&mut code);
    build_page_tables(&mut code);
    enter_long_mode(&mut code);
    fill_memory(&mut code);
    rest_or_go_on(&mut code);
    start_timer(&mut code);
    dirty_pages(&mut code);
    on_timer(&mut code);
    tables(&mut code);
    code.finish()
}

fn load_parameters(code: &mut Assembler) {
    code.op("xor ax,ax", &[0x31, 0xC0]);
    code.op("mov ds,ax", &[0x8E, 0xD8]);
    code.op("mov es,ax", &[0x8E, 0xC0]);
    code.op("mov ss,ax", &[0x8E, 0xD0]);
    code.op("mov sp,0x7c00", &[0xBC, 0x00, 0x7C]);
    // INT 13h, function 2: one sector, the second of the track, of the disk we came from (DL), to 0x7e00.
    code.op("mov ax,0x201", &[0xB8, 0x01, 0x02]);
    code.op("mov bx,0x7e00", &[0xBB, 0x00, 0x7E]);
    code.op("mov cx,0x2", &[0xB9, 0x02, 0x00]);
    code.op("mov dh,0x0", &[0xB6, 0x00]);
    code.op("int 0x13", &[0xCD, 0x13]);
    // Unreadable: stands still here, and the harness says that the guest does not come up.
    code.label("unreadable");
    code.op_to("jb {}", &[0x72], Field::Relative8, "unreadable", &[]);
    code.op("cli", &[0xFA]);
    code.op("cld", &[0xFC]);
}

fn build_page_tables(code: &mut Assembler) {
    code.op("mov di,0x1000", &[0xBF, 0x00, 0x10]);
    code.op("xor eax,eax", &[0x66, 0x31, 0xC0]);
    code.op("mov cx,0x400", &[0xB9, 0x00, 0x04]);
    code.op("rep stos DWORD PTR es:[di],eax", &[0x66, 0xF3, 0xAB]);
    // The only entry of the top table: present, writable, its table at 0x2000, where DI is now.
    code.op("mov DWORD PTR ds:0x1000,0x2003", &[0x66, 0xC7, 0x06, 0x00, 0x10, 0x03, 0x20, 0x00, 0x00]);
    // EDX:EAX is an entry: present, writable, a page of 1 GiB.
    code.op("mov al,0x83", &[0xB0, 0x83]);
    code.op("xor edx,edx", &[0x66, 0x31, 0xD2]);
    code.label("entry");
    code.op("stos DWORD PTR es:[di],eax", &[0x66, 0xAB]);
    code.op("xchg edx,eax", &[0x66, 0x92]);
    code.op("stos DWORD PTR es:[di],eax", &[0x66, 0xAB]);
    code.op("xchg edx,eax", &[0x66, 0x92]);
    code.op("add eax,0x40000000", &[0x66, 0x05, 0x00, 0x00, 0x00, 0x40]);
    code.op("adc edx,0x0", &[0x66, 0x83, 0xD2, 0x00]);
    code.op("cmp di,0x3000", &[0x81, 0xFF, 0x00, 0x30]);
    code.op_to("jb {}", &[0x72], Field::Relative8, "entry", &[]);
}

fn enter_long_mode(code: &mut Assembler) {
    code.op_to("lgdtw ds:{}", &[0x0F, 0x01, 0x16], Field::Absolute16, "gdt-pointer", &[]);
    // Physical address extension, page tables, long mode enabled, then paging and protection at once.
    code.op("mov eax,cr4", &[0x0F, 0x20, 0xE0]);
    code.op("or al,0x20", &[0x0C, 0x20]);
    code.op("mov cr4,eax", &[0x0F, 0x22, 0xE0]);
    code.op("mov eax,0x1000", &[0x66, 0xB8, 0x00, 0x10, 0x00, 0x00]);
    code.op("mov cr3,eax", &[0x0F, 0x22, 0xD8]);
    code.op("mov ecx,0xc0000080", &[0x66, 0xB9, 0x80, 0x00, 0x00, 0xC0]);
    code.op("rdmsr", &[0x0F, 0x32]);
    code.op("or ah,0x1", &[0x80, 0xCC, 0x01]);
    code.op("wrmsr", &[0x0F, 0x30]);
    code.op("mov eax,cr0", &[0x0F, 0x20, 0xC0]);
    code.op("or eax,0x80000001", &[0x66, 0x0D, 0x01, 0x00, 0x00, 0x80]);
    code.op("mov cr0,eax", &[0x0F, 0x22, 0xC0]);
    code.op_to("jmp 0x8:{}", &[0xEA], Field::Absolute16, "long-mode", &[0x08, 0x00]);
}

/// Registers from here on: RBP status, RSI parameters, RBX generator, R8 its multiplier.
fn fill_memory(code: &mut Assembler) {
    code.mode(Mode::Bits64);
    code.label("long-mode");
    code.op("mov eax,0x10", &[0xB8, 0x10, 0x00, 0x00, 0x00]);
    code.op("mov ss,eax", &[0x8E, 0xD0]);
    code.op("mov esp,0x7c00", &[0xBC, 0x00, 0x7C, 0x00, 0x00]);
    code.op("mov ebp,0x6000", &[0xBD, 0x00, 0x60, 0x00, 0x00]);
    code.op("mov esi,0x7e00", &[0xBE, 0x00, 0x7E, 0x00, 0x00]);
    // "LGR1": filling.
    code.op("mov QWORD PTR [rbp+0x0],0x3152474c", &[0x48, 0xC7, 0x45, 0x00, 0x4C, 0x47, 0x52, 0x31]);
    code.op("mov r8,QWORD PTR [rsi+0x20]", &[0x4C, 0x8B, 0x46, 0x20]);
    code.op("mov rbx,QWORD PTR [rsi+0x28]", &[0x48, 0x8B, 0x5E, 0x28]);
    code.op("mov ecx,0x2", &[0xB9, 0x02, 0x00, 0x00, 0x00]);
    code.label("range");
    code.op("lods rax,QWORD PTR ds:[rsi]", &[0x48, 0xAD]);
    code.op("mov rdi,rax", &[0x48, 0x89, 0xC7]);
    code.op("lods rax,QWORD PTR ds:[rsi]", &[0x48, 0xAD]);
    code.label("fill");
    code.op("cmp rdi,rax", &[0x48, 0x39, 0xC7]);
    code.op_to("jae {}", &[0x73], Field::Relative8, "filled", &[]);
    // Four words to a turn, because every jump costs an emulator dearly.
    next_word(code);
    code.op("mov QWORD PTR [rdi],rdx", &[0x48, 0x89, 0x17]);
    next_word(code);
    code.op("mov QWORD PTR [rdi+0x8],rdx", &[0x48, 0x89, 0x57, 0x08]);
    next_word(code);
    code.op("mov QWORD PTR [rdi+0x10],rdx", &[0x48, 0x89, 0x57, 0x10]);
    next_word(code);
    code.op("mov QWORD PTR [rdi+0x18],rdx", &[0x48, 0x89, 0x57, 0x18]);
    code.op("add rdi,0x20", &[0x48, 0x83, 0xC7, 0x20]);
    code.op_to("jmp {}", &[0xEB], Field::Relative8, "fill", &[]);
    code.label("filled");
    code.op("dec ecx", &[0xFF, 0xC9]);
    code.op_to("jne {}", &[0x75], Field::Relative8, "range", &[]);
    // "LGR2": filled.
    code.op("mov QWORD PTR [rbp+0x0],0x3252474c", &[0x48, 0xC7, 0x45, 0x00, 0x4C, 0x47, 0x52, 0x32]);
}

/// Puts the next random word into RDX: a multiplicative generator whose upper half is folded into the weaker lower half. From
/// a seed of 0 come only zeroes, which is how memory is filled with zero.
fn next_word(code: &mut Assembler) {
    code.op("imul rbx,r8", &[0x49, 0x0F, 0xAF, 0xD8]);
    code.op("mov rdx,rbx", &[0x48, 0x89, 0xDA]);
    code.op("shr rdx,0x20", &[0x48, 0xC1, 0xEA, 0x20]);
    code.op("xor rdx,rbx", &[0x48, 0x31, 0xDA]);
}

/// R13 is the time between two pages; none means that the guest is idle for good.
fn rest_or_go_on(code: &mut Assembler) {
    code.op("mov rbx,QWORD PTR [rsi+0x10]", &[0x48, 0x8B, 0x5E, 0x10]);
    code.op("mov r13,QWORD PTR [rsi+0x28]", &[0x4C, 0x8B, 0x6E, 0x28]);
    code.op("test r13,r13", &[0x4D, 0x85, 0xED]);
    code.op_to("jne {}", &[0x75], Field::Relative8, "pace", &[]);
    code.label("idle");
    code.op("cli", &[0xFA]);
    code.op("hlt", &[0xF4]);
    code.op_to("jmp {}", &[0xEB], Field::Relative8, "idle", &[]);
}

/// R15 is where the working set begins, R14 its pages less one, R10 the debt that is not forgiven.
fn start_timer(code: &mut Assembler) {
    code.label("pace");
    code.op("mov r15,QWORD PTR [rsi+0x18]", &[0x4C, 0x8B, 0x7E, 0x18]);
    code.op("mov r14,QWORD PTR [rsi+0x20]", &[0x4C, 0x8B, 0x76, 0x20]);
    code.op("mov r10,QWORD PTR [rsi+0x30]", &[0x4C, 0x8B, 0x56, 0x30]);
    // The BIOS has mapped the timer (IRQ 0) to vector 8. Its gate: selector 8, an interrupt gate.
    code.op_to(
        "mov DWORD PTR ds:0x5080,0x8{}",
        &[0xC7, 0x04, 0x25, 0x80, 0x50, 0x00, 0x00],
        Field::Absolute16,
        "timer",
        &[0x08, 0x00],
    );
    let gate_high = [0xC7, 0x04, 0x25, 0x84, 0x50, 0x00, 0x00, 0x00, 0x8E, 0x00, 0x00];
    code.op("mov DWORD PTR ds:0x5084,0x8e00", &gate_high);
    let gate_top = [0x48, 0xC7, 0x04, 0x25, 0x88, 0x50, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00];
    code.op("mov QWORD PTR ds:0x5088,0x0", &gate_top);
    code.op_to("lidt ds:{}", &[0x0F, 0x01, 0x1C, 0x25], Field::Absolute32, "idt-pointer", &[]);
    // Channel 0 of the 8254, rate generator: 1193182 Hz / 596 = 2002 Hz.
    code.op("mov al,0x34", &[0xB0, 0x34]);
    code.op("out 0x43,al", &[0xE6, 0x43]);
    code.op("mov al,0x54", &[0xB0, 0x54]);
    code.op("out 0x40,al", &[0xE6, 0x40]);
    code.op("mov al,0x2", &[0xB0, 0x02]);
    code.op("out 0x40,al", &[0xE6, 0x40]);
    // No interrupt but the timer's.
    code.op("mov al,0xfe", &[0xB0, 0xFE]);
    code.op("out 0x21,al", &[0xE6, 0x21]);
    code.op("mov al,0xff", &[0xB0, 0xFF]);
    code.op("out 0xa1,al", &[0xE6, 0xA1]);
}

/// R12 is when the next page is due, RAX the time of this tick.
fn dirty_pages(code: &mut Assembler) {
    read_time(code);
    code.op("mov r12,rax", &[0x49, 0x89, 0xC4]);
    code.label("sleep");
    code.op("sti", &[0xFB]);
    code.op("hlt", &[0xF4]);
    code.op("cli", &[0xFA]);
    read_time(code);
    code.op("mov QWORD PTR [rbp+0x18],rax", &[0x48, 0x89, 0x45, 0x18]);
    code.op("mov r11,rax", &[0x49, 0x89, 0xC3]);
    code.op("sub r11,r10", &[0x4D, 0x29, 0xD3]);
    code.op("cmp r12,r11", &[0x4D, 0x39, 0xDC]);
    code.op("cmovb r12,r11", &[0x4D, 0x0F, 0x42, 0xE3]);
    code.label("due");
    code.op("cmp r12,rax", &[0x49, 0x39, 0xC4]);
    code.op_to("ja {}", &[0x77], Field::Relative8, "sleep", &[]);
    next_word(code);
    code.op("shr rdx,0x20", &[0x48, 0xC1, 0xEA, 0x20]);
    code.op("and rdx,r14", &[0x4C, 0x21, 0xF2]);
    code.op("shl rdx,0xc", &[0x48, 0xC1, 0xE2, 0x0C]);
    code.op("mov QWORD PTR [rdx+r15*1],rbx", &[0x4A, 0x89, 0x1C, 0x3A]);
    code.op("inc QWORD PTR [rbp+0x8]", &[0x48, 0xFF, 0x45, 0x08]);
    code.op("add r12,r13", &[0x4D, 0x01, 0xEC]);
    code.op_to("jmp {}", &[0xEB], Field::Relative8, "due", &[]);
}

fn read_time(code: &mut Assembler) {
    code.op("rdtsc", &[0x0F, 0x31]);
    code.op("shl rdx,0x20", &[0x48, 0xC1, 0xE2, 0x20]);
    code.op("or rax,rdx", &[0x48, 0x09, 0xD0]);
}

fn on_timer(code: &mut Assembler) {
    code.label("timer");
    code.op("push rax", &[0x50]);
    code.op("inc QWORD PTR [rbp+0x10]", &[0x48, 0xFF, 0x45, 0x10]);
    code.op("mov al,0x20", &[0xB0, 0x20]);
    code.op("out 0x20,al", &[0xE6, 0x20]);
    code.op("pop rax", &[0x58]);
    code.op("iretq", &[0x48, 0xCF]);
}

fn tables(code: &mut Assembler) {
    code.mode(Mode::Data);
    code.label("gdt");
    code.op("no segment", &[0; 8]);
    code.op("code of 64 bits", &[0xFF, 0xFF, 0x00, 0x00, 0x00, 0x9A, 0xAF, 0x00]);
    code.op("data", &[0xFF, 0xFF, 0x00, 0x00, 0x00, 0x92, 0xCF, 0x00]);
    code.label("gdt-pointer");
    code.op_to("24 bytes at gdt", &[0x17, 0x00], Field::Absolute32, "gdt", &[]);
    code.label("idt-pointer");
    code.op("9 gates at 0x5000", &[0x8F, 0x00, 0x00, 0x50, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00]);
}
