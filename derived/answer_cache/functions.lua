#!lua name=tieout_answers
-- The cache's operations, each in one step on the server. What each must do: derived/answer_cache/port.py.
--
-- KEYS[1] is the pod's state (hash), KEYS[2] its floors (sorted set: tag -> the last cut that touched the tag).
-- Both are one whole: the set has a member named after the state's generation. If the server has evicted or lost
-- either, nobody knows what was touched. Then nothing is served or filled until the consumer begins anew.
-- KEYS[3] is a value (hash), KEYS[4] the lease of loading it.

local TOLD_MS = 1000

local function now_ms()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function mark(generation)
    return '=' .. generation
end

local function pod_of(keys)
    local told = redis.call('HMGET', keys[1], 'generation', 'epoch', 'since')
    if not told[1] or not redis.call('ZSCORE', keys[2], mark(told[1])) then return nil end
    return {generation = told[1], epoch = told[2], since = tonumber(told[3])}
end

-- An answer is good if it was read at this cut or later.
local function floor_of(keys, pod, tags)
    local floor = pod.since
    for _, tag in ipairs(tags) do
        local touched = redis.call('ZSCORE', keys[2], tag)
        if touched and tonumber(touched) > floor then floor = tonumber(touched) end
    end
    return floor
end

local function value_of(key)
    local told = redis.call('HMGET', key, 'generation', 'cut', 'seconds', 'filled', 'expires', 'absent', 'bytes', 'tags')
    if not told[1] or not told[8] then return nil end
    return {
        generation = told[1], cut = tonumber(told[2]), seconds = tonumber(told[3]), filled = tonumber(told[4]),
        expires = tonumber(told[5]), absent = told[6], bytes = told[7], tags = cjson.decode(told[8]),
    }
end

local function lease_to(key, token, milliseconds)
    return redis.call('SET', key, token, 'NX', 'PX', milliseconds)
end

local function answer(state, value, now)
    if not value then return {state} end
    local tags = {unpack(value.tags)}
    return {state, string.format('%.0f', value.cut), string.format('%.0f', now - value.filled), value.absent, value.bytes, tags}
end

-- ARGV: token, milliseconds of the lease, how much earlier than at its expiry an answer is refreshed, in times of what
-- it took to load.
local function get_or_lease(keys, arguments)
    local pod = pod_of(keys)
    if not pod then return {'unready'} end
    local value, now = value_of(keys[3]), now_ms()
    if value and value.generation ~= pod.generation then value = nil end
    if value and value.cut >= floor_of(keys, pod, value.tags) then
        if now + value.seconds * 1000 * tonumber(arguments[3]) < value.expires then
            return answer('fresh', value, now)
        end
        local taken = lease_to(keys[4], arguments[1], arguments[2])
        if now < value.expires then return answer(taken and 'early' or 'fresh', value, now) end
        return answer(taken and 'lease' or 'wait', value, now)
    end
    return answer(lease_to(keys[4], arguments[1], arguments[2]) and 'lease' or 'wait', value, now)
end

-- ARGV: token, epoch, cut, seconds of loading, milliseconds until the expiry, milliseconds until it is removed,
-- whether there is no such thing, bytes, tags.
local function fill(keys, arguments)
    if redis.call('GET', keys[4]) ~= arguments[1] then return 'lost' end
    redis.call('DEL', keys[4])
    local pod, cut = pod_of(keys), tonumber(arguments[3])
    if not pod then return 'unready' end
    if pod.epoch ~= arguments[2] then return 'other epoch' end
    local tags = {unpack(arguments, 9)}
    if cut < floor_of(keys, pod, tags) then return 'stale' end
    local held = value_of(keys[3])
    if held and held.generation == pod.generation and held.cut > cut then return 'older' end
    local now = now_ms()
    redis.call(
        'HSET', keys[3], 'generation', pod.generation, 'cut', arguments[3], 'seconds', arguments[4],
        'filled', string.format('%.0f', now), 'expires', string.format('%.0f', now + tonumber(arguments[5])),
        'absent', arguments[7], 'bytes', arguments[8], 'tags', cjson.encode(tags)
    )
    redis.call('PEXPIRE', keys[3], arguments[6])
    return 'filled'
end

-- KEYS[1] is the lease. ARGV: token, milliseconds.
local function renew(keys, arguments)
    if redis.call('GET', keys[1]) ~= arguments[1] then return 0 end
    return redis.call('PEXPIRE', keys[1], arguments[2])
end

-- KEYS[1] is the lease. ARGV: token.
local function release(keys, arguments)
    if redis.call('GET', keys[1]) ~= arguments[1] then return 0 end
    return redis.call('DEL', keys[1])
end

-- Whoever keeps answers in its own process follows keys of this name; the value is of no interest.
local function tell(prefix, tag)
    redis.call('SET', prefix .. tag, '', 'PX', TOLD_MS)
end

-- ARGV: prefix of what is told, generation, epoch, cut, moment of the data, then partition and position in turn.
local function begin(keys, arguments)
    redis.call('DEL', keys[1], keys[2])
    redis.call(
        'HSET', keys[1], 'generation', arguments[2], 'epoch', arguments[3], 'since', arguments[4], 'data_at', arguments[5]
    )
    for place = 6, #arguments, 2 do redis.call('HSET', keys[1], 'p' .. arguments[place], arguments[place + 1]) end
    redis.call('ZADD', keys[2], '+inf', mark(arguments[2]))
    tell(arguments[1], '*')
    return 'begun'
end

-- The server keeps the floors of the tags that were touched last. An answer from before what it forgets is not good.
local function trim(keys, pod, most)
    local surplus = redis.call('ZCARD', keys[2]) - 1 - most
    if surplus <= 0 then return end
    local count = math.min(surplus + math.floor(most / 10), most)
    local last = redis.call('ZRANGE', keys[2], count - 1, count - 1, 'WITHSCORES')
    redis.call('HSET', keys[1], 'since', string.format('%.0f', math.max(pod.since, tonumber(last[2]))))
    redis.call('ZREMRANGEBYRANK', keys[2], 0, count - 1)
end

-- ARGV: prefix of what is told, epoch, moment of the data, most floors, number of partitions, then for each partition
-- its number, its position before and after, then tag and cut in turn.
local function invalidate(keys, arguments)
    local pod, count = pod_of(keys), tonumber(arguments[5])
    if not pod or pod.epoch ~= arguments[2] then return 'fenced' end
    for place = 6, 5 + 3 * count, 3 do
        local held = redis.call('HGET', keys[1], 'p' .. arguments[place]) or '0:0'
        if held ~= arguments[place + 1] then return 'fenced' end
    end
    for place = 6, 5 + 3 * count, 3 do redis.call('HSET', keys[1], 'p' .. arguments[place], arguments[place + 2]) end
    redis.call('HSET', keys[1], 'data_at', arguments[3])
    for place = 6 + 3 * count, #arguments, 2 do
        redis.call('ZADD', keys[2], 'GT', arguments[place + 1], arguments[place])
        tell(arguments[1], arguments[place])
    end
    trim(keys, pod, tonumber(arguments[4]))
    return 'done'
end

-- Changes nothing, not even who may load.
local function look(keys)
    local pod, value = pod_of(keys), value_of(keys[3])
    if not pod or not value or value.generation ~= pod.generation then return {} end
    local is_good = value.cut >= floor_of(keys, pod, value.tags)
    return answer(is_good and 'fresh' or 'stale', value, now_ms())
end

redis.register_function('tieout_get_or_lease', get_or_lease)
redis.register_function('tieout_fill', fill)
redis.register_function('tieout_renew', renew)
redis.register_function('tieout_release', release)
redis.register_function{function_name = 'tieout_begin', callback = begin, flags = {'allow-oom'}}
redis.register_function{function_name = 'tieout_invalidate', callback = invalidate, flags = {'allow-oom'}}
redis.register_function{function_name = 'tieout_look', callback = look, flags = {'no-writes', 'allow-oom'}}
