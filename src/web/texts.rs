//! WEB · the words on the screen, Chinese first, English as the second language: all in this one table.

/// Which language a person reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lang {
    /// 中文: what a duty room reads.
    #[default]
    Zh,
    /// English.
    En,
}

impl Lang {
    /// The language of that tag.
    pub fn parse(tag: &str) -> Option<Self> {
        match tag {
            "zh" => Some(Self::Zh),
            "en" => Some(Self::En),
            _ => None,
        }
    }

    /// The tag in the cookie and in `<html lang>`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Zh => "zh",
            Self::En => "en",
        }
    }

    /// The words of this language.
    pub fn texts(self) -> &'static Texts {
        match self {
            Self::Zh => &ZH,
            Self::En => &EN,
        }
    }

    /// The one of the two that this language reads.
    pub fn pick(self, text: &crate::model::Text) -> &str {
        match self {
            Self::Zh => &text.zh,
            Self::En => &text.en,
        }
    }
}

macro_rules! texts {
    ($($key:ident: $zh:literal, $en:literal;)*) => {
        /// Every word of the screen in one language.
        #[derive(Debug)]
        #[expect(missing_docs, reason = "each field is the words themselves")]
        pub struct Texts { $(pub $key: &'static str,)* }

        const ZH: Texts = Texts { $($key: $zh,)* };
        const EN: Texts = Texts { $($key: $en,)* };

        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($key), $zh, $en),)*];
    };
}

texts! {
    product: "物联网远程监控", "IoT remote monitoring";
    monitor: "监控", "Monitor";
    log: "值班日志", "Duty log";
    history: "历史报警", "Past alarms";
    strays: "待接入", "Not connected";
    health: "运行状况", "Health";
    sign_in: "登录", "Sign in";
    sign_out: "退出", "Sign out";
    account: "账号", "Account";
    password: "密码", "Password";
    person: "值班员姓名", "Your name";
    phone: "回拨电话（选填）", "Call-back phone (optional)";
    person_why: "您的姓名会写进值班日志", "Your name goes into the duty log";
    first_password: "首次启动时的密码打印在网关的控制台上", "The first password was printed by the gateway when it first started";
    other_lang: "English", "中文";
    on_duty: "值班", "On duty";
    // the monitor
    current: "当前报警", "Open alarms";
    none_open: "当前没有未处理的报警", "No open alarms";
    none_open_why: "有新报警时，这里会立即显示并发出声音", "A new alarm appears here at once, with sound";
    first_fire: "首火警", "First fire";
    newest_fire: "最新火警", "Newest fire";
    fires_in_all: "火警总数", "Fires in all";
    since: "发生", "Since";
    lasting: "已持续", "for";
    times: "次", "times";
    active: "正在报警", "Active";
    returned: "已恢复 未复位", "Returned, not reset";
    late: "迟报", "Late report";
    device_time: "设备时间", "Device time";
    unrecorded: "未记录", "Not recorded";
    unrecorded_why: "日志无法写入，重启后将丢失", "The journal cannot be written; a restart forgets this";
    unacknowledged: "未确认", "Not acknowledged";
    acknowledged_by: "已确认", "Acknowledged";
    silenced_by: "已消音", "Silenced";
    acknowledge: "确认", "Acknowledge";
    silence: "消音", "Silence";
    reset: "复位", "Reset";
    also: "同一监测点的其他报警", "Also on this point";
    contacts: "联系人", "Contacts";
    no_contacts: "现场计划中没有联系人", "The site plan names no contact";
    call_119: "报 119 五要素", "The five facts for a 119 call";
    fact_address: "地址", "Address";
    fact_place: "起火部位", "Where it burns";
    fact_what: "着火物", "What burns";
    fact_what_value: "待现场核实", "To be checked on site";
    fact_size: "火势", "How big";
    fact_caller: "报警人", "Caller";
    detectors_alarming: "个探测点报火警", "detecting points in alarm";
    not_on_plan: "不在现场计划中", "Not on the site plan";
    off_plan: "已从计划中移除", "No longer in the plan";
    off_plan_why: "设备或规则已从计划中移除，不会再自动恢复：请到现场核实后复位", "Its device or rule was taken out of the plan, so nothing ends it by itself: look at the place, then reset it";
    more_open: "条未显示，请先处理以上报警", "more are not shown; deal with these first";
    sites: "监测点", "Sites";
    devices: "设备", "devices";
    online: "在线", "online";
    offline: "离线", "offline";
    stale: "数据过期", "Stale";
    never_heard: "从未收到", "Never heard";
    unheard: "个测点从未上报", "points never reported";
    no_value: "尚无数据", "No value yet";
    quality_bad: "不可信", "Bad";
    quality_uncertain: "存疑", "Doubtful";
    open_count: "条报警", "alarms";
    chart: "曲线", "Chart";
    empty_plan: "现场计划中没有任何设备", "The site plan has no devices";
    empty_plan_why: "请在现场计划文件中加入单位、分区和设备；未登记的设备会出现在“待接入”", "Add sites, zones and devices to the site plan file; unknown devices are listed under Not connected";
    // point page
    range_10m: "10 分钟", "10 min";
    range_1h: "1 小时", "1 h";
    range_24h: "24 小时", "24 h";
    range_7d: "7 天", "7 d";
    range_30d: "30 天", "30 d";
    now_value: "当前值", "Now";
    rules: "报警规则", "Alarm rules";
    limit: "限值", "Limit";
    basis: "依据", "Basis";
    point_hazards: "该点的报警", "Alarms of this point";
    nothing: "无", "None";
    loading: "正在读取", "Loading";
    chart_empty: "这段时间没有数据", "No values in this range";
    chart_band: "浅色带为最小值—最大值，空白处没有数据，底部黄条处有不可信的读数", "The band is minimum to maximum; gaps have no values; yellow along the foot: values not to be trusted";
    chart_lanes: "每种状态一行，出现过的都标出；报警的状态按等级着色，空白处没有数据，底部黄条处有不可信的读数", "One lane a state, every one that was seen is marked; alarm states in the colour of their priority, gaps have no values; yellow along the foot: not to be trusted";
    back: "返回监控", "Back to the monitor";
    reports: "上报", "Reports";
    // log
    when: "时间", "Time";
    what: "事项", "What";
    site: "单位", "Site";
    position: "位置", "Place";
    device: "设备", "Device";
    why: "原因", "Why";
    who: "人员", "Who";
    note: "备注", "Note";
    number: "序号", "No.";
    older: "更早", "Older";
    newest: "最新", "Newest";
    csv: "下载 CSV", "Download CSV";
    log_empty: "还没有记录", "Nothing recorded yet";
    history_empty: "还没有已关闭的报警", "No alarm has been closed yet";
    closed: "关闭", "Closed";
    raised: "发生", "Raised";
    occurrences: "次数", "Times";
    grade: "等级", "Priority";
    class: "类别", "Class";
    commands: "设备命令", "Commands";
    command_sure: "？确定下达吗？", "? Are you sure?";
    command_logged: "谁下达了什么命令、设备怎样应答，都记入值班日志。", "Who gave which command and what the device answered is kept in the duty log.";
    timeline: "处理经过", "What happened";
    // strays
    strays_lead: "收到了消息，但现场计划里没有这个设备，或者读不懂它的内容。没有一条会被悄悄丢弃。", "Messages came from devices that are not on the site plan, or that could not be read. None is dropped in silence.";
    unknown_devices: "未登记的设备", "Unknown devices";
    unreadable: "读不懂的报文", "Unreadable messages";
    topic: "主题或地址", "Topic or address";
    reason: "原因", "Reason";
    sample: "报文样例", "Sample";
    count: "次数", "Count";
    last_seen: "最近一次", "Last seen";
    first_seen: "首次", "First seen";
    strays_none: "没有待接入的设备", "Nothing waits to be connected";
    stray_add: "把这一段加进现场计划 plan.toml 里所在的分区下面，改好名称和位置；保存后几秒内自动采用", "Add this to plan.toml under its zone and put in name and place; it is in force seconds after you saved it";
    stray_draft: "由设备自报草拟的型号文件：核对后存入 gateway.toml 里 profiles_dir 的文件夹，文件名 ", "Profile drafted from the device's own announcement: check it and save it in the folder profiles_dir of gateway.toml as ";
    stray_add_model: "先在 device-profiles 里找到它的型号；没有就照那里的说明写一个", "Find its model in device-profiles first; if there is none, write one as described there";
    stray_check: "设备已登记，但型号文件读不懂这条报文：请核对计划里它的 profile 是不是实际的型号；改好后按“重新解码”", "The device is planned but its profile cannot read this message: check that the plan names the real model; then decode again";
    kept_frames: "保存的原始报文", "Frames kept whole:";
    decode_again: "重新解码", "Decode again";
    decode_again_why: "型号文件或计划改好并生效后按这里：读数按各自的时间补进曲线和外部系统，不触发报警", "Press this once the mended profile or plan is in force: readings go into charts and stores at their own times and raise no alarm";
    decoded_frames: "重新解码完成：解出报文", "Decoded again: frames read";
    decoded_readings: "补进历史的读数（不触发报警）", "readings added to the history (no alarm is raised)";
    decoded_kept: "仍读不懂", "still unreadable";
    renewed: "型号文件或计划已更新，可重新解码的报文：", "Profiles or the plan have changed; frames that can be decoded again: ";
    planned_now: "已接入：", "In the plan now: ";
    // a new device
    adopt: "接入这台设备", "Add this device";
    adopt_title: "接入新设备", "Add a new device";
    adopt_lead: "选一个型号，看它把收到的报文读成什么；读数对了，填好名称和位置，按“接入”。写进 plan.toml，立即生效，不用重启。", "Choose a model and look at what it makes of the message. When the values are right, give name and place and press the button. It is written into plan.toml and is in force at once, without a restart.";
    adopt_gone: "这个发送者已不在“待接入”里", "This sender is not on the page of unknown devices any more";
    adopt_which: "① 它是什么型号", "① Which model is it";
    adopt_where: "② 叫什么，装在哪里", "② Its name and place";
    adopt_button: "接入", "Add it";
    adopt_more: "还有型号也听这个主题：", "More models listen to this topic: ";
    adopt_other: "换一个型号看看（输入厂商、型号或名称）", "Look at another model (type maker, number or name)";
    adopt_try: "看读成什么", "Show what it reads";
    adopt_nobody: "没有一个型号听这个主题。", "No model listens to this topic.";
    adopt_alike: "内容像下面的型号，但它们听的是别的主题：先在设备上改主题，再来接入", "The content looks like these models, but they listen to other topics: change the topic on the device first";
    adopt_write_one: "型号目录里没有的设备，照 device-profiles/README.md 写一个型号文件（不用编程），放进 profiles_dir，几秒内就出现在这里。", "For a device that the catalogue lacks, write a profile as device-profiles/README.md says (no programming) and put it into profiles_dir; it shows here within seconds.";
    adopt_misheard: "不听这个主题：", "does not listen to this topic: ";
    adopt_points: "个测点读懂", "points read";
    adopt_no_reading: "从这条报文里读不出任何测点", "Reads no point from this message";
    adopt_name: "名称（值班员认得的）", "Name, as the duty officer knows it";
    adopt_name_like: "203 房间烟感", "Smoke 203";
    adopt_zone: "分区", "Zone";
    adopt_zone_new: "＋ 新分区", "+ a new zone";
    adopt_zone_name: "新分区的名称（选了“新分区”才填）", "Name of the new zone (only with “a new zone”)";
    adopt_place: "具体位置（给赶去的人看）", "Exact place, for the person who runs there";
    adopt_place_like: "床头上方", "above the bed";
    adopt_details: "编号和地址（已按报文填好，一般不用改）", "Id and address (taken from the message; mostly right)";
    adopt_id: "编号", "Id";
    adopt_address: "主题里的地址", "Address in the topic";
    adopt_copy: "手工加进 plan.toml 所在分区下面的几行：", "The lines to add to plan.toml under its zone:";
    adopt_untaken: "已写进 plan.toml，但网关没有采用，仍按原来的计划运行。原因：", "It is in plan.toml, but the gateway did not take it and goes on with the old plan. Why: ";
    adopt_done: "已接入并生效", "Added and in force";
    adopt_done_why: "下一条报文起就有读数；以前收到的可在这里补进历史。", "Values come with its next message; what came before can be added to the history here.";
    adopt_back: "继续接入下一台", "Add the next one";
    device_title: "设备", "Device";
    // the catalogue
    catalogue: "型号目录", "Models";
    catalogue_lead: "这个网关认得的全部设备型号。点开看它上报什么、会报什么警、依据哪条标准。", "Every device model that this gateway can read. Open one to see what it reports, which alarms it can raise, and by which standard.";
    catalogue_search: "厂商、型号、名称、测点", "Maker, number, name, points";
    search: "查找", "Search";
    catalogue_all: "全部", "All";
    catalogue_none: "没有找到。换个词试试，或照 device-profiles/README.md 写一个型号文件。", "Nothing found. Try another word, or write a profile as device-profiles/README.md says.";
    unverified: "未经实物验证", "not tried on hardware";
    verified: "实物验证", "Tried on hardware";
    model_reached: "怎样通信", "How it is reached";
    model_reads: "次读取一轮", "reads a round";
    model_points: "测点", "Points";
    model_firmware: "适用固件", "Firmware";
    model_also: "又名", "Also sold as";
    model_source: "出处", "Source";
    model_examples: "校验示例", "Examples";
    model_silent: "多久没消息算离线", "Silence that means offline";
    model_silent_never: "只在有事时才发消息：不判离线（计划里可另行规定）", "Speaks only when something happens: silence means nothing unless the plan says so";
    model_commands: "可下达的命令（须在计划里放行）", "Commands (the plan has to allow them)";
    model_hazards: "会报什么警、依据", "What it raises, and why";
    model_no_hazard: "不报警，只记录", "raises nothing, is recorded";
    model_snippet: "加进 plan.toml 的几行（设备已经在发消息时，从“待接入”接入更省事）", "Lines for plan.toml (when the device sends already, add it from the page of unknown devices instead)";
    download: "下载报文", "Download";
    remove: "移除", "Remove";
    remove_why: "保存的报文一起删除；再收到同样的报文时会重新出现", "Its frames are deleted as well; it comes back with the next such message";
    // health
    links: "设备链路", "Links";
    link_up: "正常", "Up";
    link_down: "中断", "Down";
    journal: "日志存储", "Journal";
    journal_ok: "可写入", "Writable";
    journal_head: "最新序号", "Newest number";
    journal_size: "占用", "Size";
    journal_oldest: "最早记录", "Oldest record";
    buffer_span: "保存着最近这么久的全部读数：", "All readings are kept of the last";
    buffer_empty: "还没有记录", "Nothing yet";
    not_known_yet: "尚不能估计", "Not known yet";
    known_soon: "记录满 10 分钟后给出", "told once ten minutes are recorded";
    years: "10 年以上", "more than 10 years";
    full: "已满，最旧的读数提前删除", "Full: the oldest readings go before their time";
    a_day: "每天", "a day";
    until_full: "距存满", "Until full";
    buffer_left: "断网还能缓存", "Buffer left";
    buffer_why: "外部系统断开时，数据留在这里，恢复后自动补送", "While an outside system is away its values wait here and are sent when it is back";
    ballast: "应急空间", "Reserve";
    ballast_gone: "已用掉", "Used up";
    ballast_gone_why: "磁盘曾经写满：请清理磁盘，空间够了会自动恢复", "The disk was full: make room; the reserve comes back by itself";
    set_aside: "损坏的文件", "Damaged files";
    set_aside_why: "已换新继续运行，请拷走后删除", "The gateway runs on with a new one; take a copy away, then delete";
    backup: "备份", "Backup";
    backup_ok: "成功", "Made";
    backup_failed: "失败", "Failed";
    backup_good: "上次成功", "the last good one is of";
    backup_late: "超期，上次成功", "Late, the last one";
    backup_late_never: "超期，从未成功", "Late, none was ever made";
    backup_late_why: "定时备份没有按时完成：请检查 U 盘，运行 fengsui doctor 看原因", "No backup was made in time: look at the stick and run fengsui doctor to see why";
    backup_none: "还没有备份", "None yet";
    config: "配置", "Configuration";
    config_ok: "与文件一致", "As in the files";
    config_taken: "更新于", "Changed";
    config_refused: "文件有错，仍按原配置运行", "Files are wrong, the old one is in force";
    config_later: "部分改动下次启动才生效", "Some changes take effect at the next start";
    config_mistakes: "配置文件的错误", "Mistakes in the configuration";
    config_mistakes_why: "改好文件后几秒内自动采用，也可点“重新读取配置”", "Mend the file: it is taken within seconds, or press Read again";
    config_reload: "重新读取配置", "Read the configuration again";
    backup_none_why: "在 gateway.toml 里写 [backup] 即可定时备份", "Write [backup] into gateway.toml to have one made regularly";
    audit: "值班日志校验码", "Duty log's fingerprint";
    audit_why: "抄到别处，日后可证明日志没有被改过", "Write it down elsewhere: it proves later that the log was not changed";
    refused_points: "外部系统拒收的数据", "Points that an outside system refused";
    refused_why: "曲线里仍有；这里只留最近的", "They are in the charts here; only the newest are listed";
    refused_point: "数据", "Point";
    refused_by: "去向", "Where";
    alike: "同样被拒", "alike";
    sinks: "数据去向", "Outgoing";
    sink_lag: "待送", "Waiting";
    sink_even: "已全部送达", "All delivered";
    sink_batches: "批，恢复后自动补送", "commits, sent when it is back";
    sink_ok: "正常", "Normal";
    sink_left: "还能缓存", "room for";
    clock: "时钟", "Clock";
    clock_ok: "已校时", "Set";
    clock_bad: "未校时", "Not set";
    clock_bad_why: "校时之后，此前记录的时间会自动更正", "Once it is set, the times recorded before are corrected";
    counters: "计数", "Counters";
    none_configured: "没有配置", "None configured";
    uptime: "已运行", "Running for";
    // connection, sound
    lost: "与网关的连接中断 — 屏幕上的内容不是最新的", "The connection to the gateway is lost — this screen is not up to date";
    expired: "登录已失效，请重新登录", "You were signed out; sign in again";
    sound_locked: "声音未启用，点击启用", "Sound is off. Click to switch it on";
    sound_on: "声音已启用", "Sound is on";
    journal_off: "无法写入，新记录不会保存", "Cannot be written; new records are not kept";
    links_off: "条链路中断", "links are down";
    no_script: "浏览器没有运行脚本：画面不会自动更新，也没有声音", "Scripts are off: this page neither updates nor sounds";
    // dialogs
    cancel: "取消", "Cancel";
    reset_ask: "复位后这条报警关闭。请写明谁到现场看过、结果如何。", "A reset closes this alarm. Say who looked at the place and what was found.";
    done: "已执行", "Done";
    done_unrecorded: "已执行，但日志无法写入，未记录", "Done, but the journal cannot be written: not recorded";
    failed: "未能执行，请再试一次", "It did not work; try again";
    second: "秒", "s";
    minute: "分", "min";
    hour: "小时", "h";
    day: "天", "d";
    ago: "前", " ago";
    // demo
    demo: "演示", "Demo";
    demo_restart: "从头演示", "Restart";
    demo_lead: "模拟设备，点一下就发生", "Simulated devices: click to make it happen";
    // sign-in failures
    wrong: "账号或密码不对", "Wrong account or password";
    locked: "失败次数过多，请 15 分钟后再试", "Too many failures; try again in 15 minutes";
    busy: "登录的人太多，请稍后再试", "Too many people are signing in; try again soon";
    name_needed: "请填写值班员姓名（不超过 32 个字）", "Type your name (at most 32 characters)";
    not_found: "没有这个页面", "There is no such page";
    not_found_why: "地址可能打错了，或者它指的东西已经不在了", "The address may be mistyped, or what it names is gone";
    refused: "没有照办", "Not done";
    broken: "读取日志失败", "The journal could not be read";
    broken_why: "请看运行状况页；现场报警仍会在监控页显示", "See the health page; live alarms are still shown on the monitor";
}

/// What each counter is called in Chinese, by its name in `metrics.rs`; English has the counter's own description.
const METRICS: &[(&str, &str)] = &[
    ("frames_received", "收到的报文"),
    ("retained_known", "保留消息中早已知道的读数（没有重复记录）"),
    ("frames_unknown", "未登记设备的报文（已放入待接入）"),
    ("frames_unreadable", "读不懂的报文（已隔离保存）"),
    ("frames_passed_over", "型号声明无需读取的报文"),
    ("frames_repeated", "重复送达的报文（已忽略）"),
    ("frames_sharing_a_millisecond", "一次涌来过多而时间相同的报文（外部数据库只留一条）"),
    ("frames_acked_unrecorded", "日志写不进时先行确认的报文"),
    ("strays_dropped", "待接入已满而没有保存的报文"),
    ("quarantine_dropped", "隔离区已满而删去的最旧报文"),
    ("capture_dropped", "抓包来不及写而漏掉的报文（只影响抓包文件）"),
    ("readings", "解出的读数"),
    ("readings_bad", "不可信的读数"),
    ("readings_lost", "日志写不进且内存已满而丢弃的读数"),
    ("hazards_raised", "发生过的报警"),
    ("hazards_open", "当前报警"),
    ("journal_head", "日志最新序号"),
    ("journal_commits", "日志写入次数"),
    ("journal_failures", "日志写入失败次数"),
    ("journal_trimmed", "未送出就被容量上限清理的记录"),
    ("journal_damaged", "校验不符而跳过的存储记录"),
    ("journal_bytes", "日志占用字节"),
    ("journal_commit_seconds", "每次写入日志用时（秒）"),
    ("hazard_latency_seconds", "从收到报文到报警入库用时（秒）"),
    ("modbus_polls", "Modbus 轮询次数"),
    ("modbus_failures", "Modbus 无正确应答次数"),
    ("modbus_dial_ins_refused", "被拒绝的拨入连接"),
    ("modbus_skipped", "Modbus 跳过的轮询"),
    ("device_commands", "发给设备的命令"),
    ("device_commands_failed", "没有执行或结果不明的设备命令"),
    ("mqtt_connects", "MQTT 连接次数"),
    ("sparkplug_gaps", "Sparkplug 缺失的报文"),
    ("sparkplug_unknown_aliases", "Sparkplug 未知别名（已隔离）"),
    ("sparkplug_rebirths", "Sparkplug 请求重新出生"),
    ("mqtt_stale_acks", "MQTT 断线作废的确认（会重发）"),
    ("mqtt_oversize", "MQTT 超长报文（只保留开头）"),
    ("frames_lost", "停机时放弃且不会重发的报文"),
    ("broker_clients", "内置 MQTT 服务的在线客户端"),
    ("broker_refused", "内置 MQTT 服务拒绝的连接和报文"),
    ("push_refused", "拒绝的平台推送（令牌、签名、内容有误）"),
    ("push_deferred", "要求平台稍后重发的推送"),
    ("influx_points", "已送达 InfluxDB 的数据点"),
    ("influx_refused", "InfluxDB 拒收的数据"),
    ("influx_retries", "InfluxDB 发送失败待重试次数"),
    ("web_streams", "打开的监控页面"),
    ("web_sign_in_failures", "登录失败次数"),
    ("web_access_lost", "没能写进值班日志的登录和退出"),
    ("backups", "定时备份完成的次数"),
    ("backups_failed", "定时备份失败的次数"),
    ("config_reloads", "运行中更新配置的次数"),
    ("config_refused", "配置文件有错、没有采用的次数"),
    ("clock_steps", "系统时钟被调整的次数"),
];

/// The Chinese name of a counter.
pub(super) fn metric(name: &str) -> Option<&'static str> {
    METRICS.iter().find(|(known, _)| *known == name).map(|(_, zh)| *zh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_chinese_name_and_every_name_its_counter() {
        let text = crate::metrics::Metrics::new().render();
        let described = text.lines().filter_map(|line| line.strip_prefix("# HELP fengsui_"));
        let mut names: Vec<&str> = described.filter_map(|line| line.split(' ').next()).collect();
        for name in &names {
            assert!(metric(name).is_some(), "{name} has no Chinese name");
        }
        let mut known: Vec<&str> = METRICS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
    }

    #[test]
    fn every_text_has_both_languages() {
        for (key, zh, en) in ALL {
            assert!(!zh.is_empty() && !en.is_empty(), "{key} lacks a language");
        }
        assert!(ALL.len() > 100);
    }
}
